"""CRPS by quantiles, as the papers on time series report it, and CRPS of sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = tuple(i / 20 for i in range(1, 20))  # 0.05 .. 0.95


def quantiles(samples: Tensor, levels: Sequence[float]) -> Tensor:
    """Elementwise quantiles of the samples (S, *any), one for each level, (len(levels), *any).

    Quantile q is the order statistic q (S - 1), counted from 0, interpolated between neighbours.

    Source: Hyndman and Fan 1996 (10.1080/00031305.1996.10473566) definition 7, which the papers' code uses.

    Raises:
        ValueError: for a level outside [0, 1].
    """
    ordered, last, found = samples.sort(0).values, len(samples) - 1, []
    for level in levels:
        if not 0.0 <= level <= 1.0:
            raise ValueError(f"a quantile's level is between 0 and 1, got {level}.")
        low = min(int(level * last), max(last - 1, 0))
        found.append(ordered[low].lerp(ordered[min(low + 1, last)], level * last - low))
    return torch.stack(found)


def pinball(quantile: Tensor, truth: Tensor, level: float) -> Tensor:
    """2 (y - y_q) (q - 1[y <= y_q]), elementwise: its mean over all levels is the CRPS.

    Args:
        quantile: y_q, the forecast's quantile of this level.
        truth: y, of the same shape.
    """
    error = truth - quantile
    return 2.0 * error * (level - (error <= 0).to(error))


def quantile_crps(
    samples: Tensor, truth: Tensor, mask: Tensor | None = None, *, relative: bool = True, levels: Sequence[float] = LEVELS
) -> Tensor:
    """Mean over the levels of sum_points pinball / sum_points |y|: one number for all items, smaller is better.

    Not the CRPS itself: 19 levels from 0.05 leave out the tails. Where the law of y is N(m, s^2) and the forecast is
    that law, the mean over the points is 0.59142 s; the CRPS (`crps`) is s / sqrt(pi) = 0.56419 s.

    Args:
        samples: (S, B, *event).
        truth: (B, *event).
        mask: (B, *event), 1 where a number counts; all without one.
        relative: divide by the sum of |y|; else by the number of points, for a score in the unit of the data.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Rasul et al. 2021 (2101.12072) section 4; Tashiro et al. 2021 (2107.03502) section 6.
    """
    if samples.shape[1:] != truth.shape:
        raise ValueError(f"samples are (S, B, *event), got {tuple(samples.shape)} for a truth {tuple(truth.shape)}.")
    kept = torch.ones_like(truth, dtype=torch.bool) if mask is None else mask.bool()
    if kept.shape != truth.shape:
        raise ValueError(f"the mask is {tuple(kept.shape)}, the truth {tuple(truth.shape)}: one for each is needed.")
    y, x = truth[kept], samples[:, kept]
    loss = torch.stack([pinball(q, y, level).sum() for q, level in zip(quantiles(x, levels), levels, strict=True)])
    return loss.mean() / (y.abs().sum() if relative else y.numel())


def crps_sum(
    samples: Tensor,
    truth: Tensor,
    mask: Tensor | None = None,
    *,
    relative: bool = True,
    levels: Sequence[float] = LEVELS,
) -> Tensor:
    """`quantile_crps` of the sum over the channels: each sample is summed first, then its quantiles are taken.

    So it sees whether the channels move together, which the CRPS of each channel does not.

    Args:
        samples: (S, B, C, L).
        truth: (B, C, L).
        mask: (B, C, L), 1 where a number counts. Numbers that do not count are left out of both sums, and times at
            which none counts out of the score (ours; public code scales by the mean of the mask).
    """
    if mask is None:
        return quantile_crps(samples.sum(-2), truth.sum(-2), relative=relative, levels=levels)
    kept = mask.bool()
    summed = samples.masked_fill(~kept, 0.0).sum(-2), truth.masked_fill(~kept, 0.0).sum(-2)
    return quantile_crps(*summed, kept.any(-2), relative=relative, levels=levels)
