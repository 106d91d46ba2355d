"""Sliced Wasserstein distance between two sets of points."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.noise import Noise


def sliced_wasserstein(a: Tensor, b: Tensor, *, noise: Noise, projections: int = 128, p: float = 2.0) -> float:
    """(mean over random directions of W_p^p between the projected sets)^(1/p), in the unit of the data.

    In one dimension W_p matches sorted points; every direction of the line is +-1, so 1-d sets give W_p itself.

    Args:
        a, b: (n, *event), the same number of points of one shape.
        noise: draws the directions, uniform on the sphere.
        projections: number of directions (ours).
        p: order, at least 1.

    Raises:
        ValueError: if the shapes differ.

    Source: Bonneel et al. 2015 (10.1007/s10851-014-0506-3) eq. 7, by Monte Carlo.
    """
    if a.shape != b.shape:
        raise ValueError(f"give as many points of one shape in both sets, got {tuple(a.shape)} and {tuple(b.shape)}.")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    directions = noise.normal(torch.empty(a.shape[1], projections, dtype=a.dtype, device=a.device))
    directions = directions / directions.norm(dim=0)
    gaps = (a @ directions).sort(0).values - (b @ directions).sort(0).values
    return float(gaps.abs().pow(p).mean() ** (1.0 / p))
