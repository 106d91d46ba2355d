"""The noise of a measurement: an estimate where it was not stated, and a check where it was."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.operators.measurement import Measurement


def estimate_sigma(y: Tensor, seen: Tensor | None = None) -> float:
    """Standard deviation of white noise in pictures (B, C, H, W), in their unit: the median of |d| / 0.6745.

    d are the diagonal details of the finest Haar level, (a - b - c + d) / 2 over blocks of 2 x 2, where smooth pictures
    have nothing and white noise keeps its standard deviation. Fine texture counts as noise, so it is an upper guess.

    Args:
        seen: 1 where y is a measurement; blocks that are not wholly seen are left out.

    Raises:
        ValueError: if fewer than 16 blocks are seen.

    Source: Donoho & Johnstone 1994 (10.1093/biomet/81.3.425) section 4.2, with the Haar wavelet (ours).
    """
    h, w = (n // 2 * 2 for n in y.shape[-2:])
    corners = [y[..., i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
    details = (corners[0] - corners[1] - corners[2] + corners[3]) / 2
    if seen is not None:
        whole = seen.expand_as(y)
        parts = [whole[..., i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
        details = details[torch.stack(parts).amin(0) > 0]
    if details.numel() < 16:
        raise ValueError(f"{details.numel()} blocks of 2 x 2 are too few to estimate the noise from: state sigma.")
    return float(details.abs().flatten().median()) / 0.6744897501960817


def chi_square(m: Measurement, x0: Tensor) -> Tensor:
    """|y - A x_0|^2 / (n sigma^2) of each row, (B,): 1 +- sqrt(2 / n) for the truth or an exact sample given y.

    n counts what was seen; of noise that is not Gaussian it is Pearson's statistic, (y - c)^2 / Var[y | c].
    Well above 1: sigma is too small, A is not the operator, or the solver failed; well below:
    sigma is too large, or x_0 fits the noise.

    Raises:
        ValueError: if sigma is 0, for which the residual itself should be.
    """
    if m.likelihood is not None:
        clean = m.operator(x0)
        terms = m.seen * (m.y - clean) ** 2 / m.likelihood.variance(clean)
        return terms.flatten(1).sum(1) / count(m).clamp(min=1)
    if m.sigma == 0.0:
        raise ValueError("without noise there is no chi-square: the residual itself should be zero.")
    r = m.residual(x0).flatten(1)
    return r.abs().square().sum(1) / (count(m).clamp(min=1) * m.sigma**2)


def count(m: Measurement) -> Tensor:
    """How many numbers of y are measurements, of each row, (B,): places that a mask does not see are none."""
    return m.seen.expand(m.y.shape).flatten(1).sum(1)
