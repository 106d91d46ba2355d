"""How sure a figure is: the bootstrap over items, and the jackknife for figures of two sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.metrics.coverage import central_interval
from sfumato.noise import Noise

CHUNK = 2**22  # numbers drawn at once


class Interval(NamedTuple):
    """A mean over items and the interval that its true value lies in with probability `level`."""

    mean: float
    low: float
    high: float
    level: float


def bootstrap(values: Tensor, noise: Noise, *, level: float = 0.95, resamples: int = 2000) -> Interval:
    """Mean of values (n,) and its percentile interval: the quantiles of means over n items drawn with replacement.

    For two methods on the same items give the differences, item by item: the interval is then that of the difference,
    and much narrower than two intervals beside each other, since hard items are hard for both. It needs items that are
    independent (crops of one photograph are not), and is too narrow for few: at n = 10 it covers about 90 % for 95 %.

    Args:
        values: one figure an item; infinite ones make the mean infinite and leave no interval (NaN).
        noise: draws the items.
        level: in (0, 1).
        resamples: means (ours; Efron and Tibshirani: 1000 or more for intervals).

    Raises:
        ValueError: if there are no values, or they are not (n,).

    Source: Efron and Tibshirani 1993 (An introduction to the bootstrap) section 13.3.
    """
    if values.ndim != 1 or not len(values):
        raise ValueError(f"give one value an item, (n,) with n from 1 on, got {tuple(values.shape)}.")
    values = values.double()
    mean = float(values.mean())
    if len(values) < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, level)
    means, rows = [], max(1, CHUNK // len(values))
    for first in range(0, resamples, rows):
        u = noise.uniform(values.new_empty(min(rows, resamples - first), len(values)))
        means.append(values[(u * len(values)).long()].mean(1))
    low, high = central_interval(torch.cat(means).unsqueeze(1), level)
    return Interval(mean, float(low), float(high), level)


def jackknife(
    figure: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, noise: Noise, groups: int = 10
) -> Tensor:
    """Standard error of figures of two sets, one each, by leaving out one group of both at a time.

    `left_out_error` of the figures without each group. Items of a set drawn twice, as the
    bootstrap draws them, would be each other's nearest neighbours and would shrink covariances; leaving out does not.
    For figures of many items; what their bias depends on (n) it does not see.

    Args:
        figure: (a, b) to a tensor of figures, (f,).
        a, b: sets, (n, ...) and (m, ...), in any order.
        noise: draws the groups.
        groups: g (ours).

    Raises:
        ValueError: for fewer than 2 groups, or a set with fewer items than groups.

    Source: Shao and Tu 1995 (The jackknife and bootstrap) section 2.3: delete a group.
    """
    of_a, of_b = group_numbers(len(a), len(b), groups, noise)
    return left_out_error(torch.stack([figure(a[of_a != i], b[of_b != i]).double() for i in range(groups)]))


def group_numbers(n: int, m: int, groups: int, noise: Noise) -> tuple[Tensor, Tensor]:
    """The groups of n and of m items, of sizes that differ by one at most, in a drawn order.

    Raises:
        ValueError: for fewer than 2 groups, or a set with fewer items than groups.
    """
    if not 2 <= groups <= min(n, m):
        raise ValueError(f"groups are from 2 to the items of the smaller set, {min(n, m)}, got {groups}.")
    return noise.permutation(n) % groups, noise.permutation(m) % groups


def left_out_error(found: Tensor) -> Tensor:
    """sqrt((g - 1) / g sum_i (f_i - mean f)^2), (f,), of figures without each of g groups, (g, f)."""
    return ((len(found) - 1) / len(found) * (found - found.mean(0)).square().sum(0)).sqrt()
