"""Coverage of central intervals: are the samples' spreads honest?"""

from __future__ import annotations

import math

from torch import Tensor

from sfumato.metrics.masked import masked_mean


def central_interval(samples: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """(low, high), each (B, *event): where a further draw of the same law lies with probability `level`.

    S samples cut the line into S + 1 parts that a further draw falls into with equal probability, so quantile q is the
    order statistic q (S + 1), counted from 1, interpolated between neighbours, and held to the outermost samples: at
    most (S - 1) / (S + 1) can be covered, so a level of 0.9 takes 19 samples.

    Args:
        samples: (S, B, *event).
        level: in (0, 1).

    Source: Hyndman and Fan 1996 (10.1080/00031305.1996.10473566) definition 6.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}.")
    ordered, tail = samples.sort(0).values, 0.5 * (1.0 - level)
    return _order_statistic(ordered, tail), _order_statistic(ordered, 1.0 - tail)


def coverage(samples: Tensor, truth: Tensor, mask: Tensor | None = None, *, level: float = 0.9) -> Tensor:
    """Share of each item's numbers that lie inside the samples' central interval, ends included, (B,).

    Calibrated samples give `level`, as far as their number allows (`central_interval`).

    Args:
        samples: (S, B, *event).
        truth: (B, *event).
        mask: (B, *event), 1 where a number counts; all without one.
        level: in (0, 1).
    """
    if samples.shape[1:] != truth.shape:
        raise ValueError(f"samples are (S, B, *event), got {tuple(samples.shape)} for a truth {tuple(truth.shape)}.")
    low, high = central_interval(samples, level)
    return masked_mean(((low <= truth) & (truth <= high)).double(), mask)


def _order_statistic(ordered: Tensor, q: float) -> Tensor:
    last = ordered.shape[0] - 1
    place = min(max(q * (last + 2) - 1.0, 0.0), float(last))
    below = min(math.floor(place), last)
    return ordered[below].lerp(ordered[min(below + 1, last)], place - below)
