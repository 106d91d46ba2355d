"""Frechet distance between Gaussians, and between sets of features through their means and covariances."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_normal(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2): the squared 2-Wasserstein distance of two Gaussians.

    Computed in float64; covariances may be singular. The square root of a negative rounding error counts as 0.

    Args:
        mean_a, mean_b: (d,).
        cov_a, cov_b: (d, d).

    Source: Dowson and Landau 1982 (10.1016/0047-259X(82)90077-X).
    """
    mean_a, cov_a, mean_b, cov_b = (v.double() for v in (mean_a, cov_a, mean_b, cov_b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float((mean_a - mean_b).pow(2).sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance between two sets of features, (n, d) and (m, d), by their means and unbiased covariances.

    It is biased upwards in small sets: compare figures of equal n only. Of Inception features it is FID; name the
    features with the figure. Source: Heusel et al. 2017 (1706.08500) eq. 6.
    """
    a, b = feature_sets(a, b)
    if max(len(a), len(b)) > a.shape[1]:
        # atleast_2d: the covariance of one feature is a scalar.
        cov_a, cov_b = (torch.atleast_2d(torch.cov(v.T)) for v in (a, b))
        return frechet_normal(a.mean(0), cov_a, b.mean(0), cov_b)
    # Fewer items than features: with X the centred items over sqrt(n - 1), C = X^T X, and the singular values of
    # X_a X_b^T (n, m) are the roots of the eigenvalues of C_a C_b that are not 0.
    x_a, x_b = ((v - v.mean(0)) / (len(v) - 1) ** 0.5 for v in (a, b))
    cross = torch.linalg.svdvals(x_a @ x_b.T).sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + x_a.square().sum() + x_b.square().sum() - 2 * cross)


def feature_sets(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The two sets in float64, if they are sets of features that can be compared.

    Raises:
        ValueError: if they are not (n, d) and (m, d) with n and m at least 2.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features are (n, d) and (m, d), at least 2 of each, got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    return a.double(), b.double()
