"""Framewise overlapping area: how alike neighbouring windows of a melody are, in pitch and in duration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

Area = Callable[[float, float, float, float], float]


def overlap(mean1: float, var1: float, mean2: float, var2: float) -> float:
    """The area under the smaller of N(mean1, var1) and N(mean2, var2), exact: 1 where they are one law.

    The densities cross at the two roots of (1/v1 - 1/v2) x^2 - 2 (m1/v1 - m2/v2) x + m1^2/v1 - m2^2/v2 - log(v2/v1);
    for equal variances at one, and the area is 2 Phi(-|m1 - m2| / (2 s)).

    Raises:
        ValueError: for a variance that is not above 0.
    """
    if not min(var1, var2) > 0.0:
        raise ValueError(f"variances are above 0, got {var1} and {var2}.")
    if abs(var1 - var2) <= 1e-12 * max(var1, var2):
        return math.erfc(abs(mean1 - mean2) / (2.0 * math.sqrt(2.0 * var1)))
    narrow, wide = ((mean1, var1), (mean2, var2)) if var1 < var2 else ((mean2, var2), (mean1, var1))
    # Between the roots the wide one is below, beyond them the narrow one.
    a = 1.0 / narrow[1] - 1.0 / wide[1]
    b = narrow[0] / narrow[1] - wide[0] / wide[1]
    c = narrow[0] ** 2 / narrow[1] - wide[0] ** 2 / wide[1] - math.log(wide[1] / narrow[1])
    root = math.sqrt(max(b * b - a * c, 0.0))
    low, high = (b - root) / a, (b + root) / a
    inside = _below(high, *wide) - _below(low, *wide)
    return inside + _below(low, *narrow) + 1.0 - _below(high, *narrow)


def published_overlap(mean1: float, var1: float, mean2: float, var2: float) -> float:
    """The form of the public code, of one root alone, and 1 for equal variances whatever the means: to compare with
    published numbers. N(60, 4) against N(60, 9): 0.903, where `overlap` has 0.806."""
    s1, s2 = math.sqrt(var1), math.sqrt(var2)
    if s1 == s2:
        return 1.0
    inside = math.sqrt((mean1 - mean2) ** 2 + 2.0 * (var1 - var2) * math.log(s1 / s2))
    c = (mean2 * var1 - s2 * (mean1 * s2 + s1 * inside)) / (var1 - var2)
    return 1.0 - _below(c, mean1, var1) + _below(c, mean2, var2)


def framewise(values: Sequence[Sequence[float]], area: Area = overlap) -> list[float]:
    """The overlap of a normal fitted to each window with that of the next, (windows - 1,); windows of fewer than two
    notes, or of equal ones, are skipped.

    Args:
        values: pitches or durations of the notes in each window (4 bars, hop 2).
    """
    fits = [_fit(window) for window in values]
    whole = [fit for fit in fits if fit is not None]
    return [area(*a, *b) for a, b in pairwise(whole)]


class Likeness(NamedTuple):
    """How near the overlaps of samples come to those of real music; 1 is best.

    Attributes:
        consistency: max(0, 1 - |mean - mean_real| / mean_real).
        variance: the same of their variances.
    """

    consistency: float
    variance: float


def likeness(samples: Sequence[float], real: Sequence[float]) -> Likeness:
    """Consistency and variance of overlaps. Source: Mittal et al. 2021 (2103.16091) eq. 4 and 5."""
    (mean, var), (mean_real, var_real) = _moments(samples), _moments(real)
    return Likeness(max(0.0, 1.0 - abs(mean - mean_real) / mean_real), max(0.0, 1.0 - abs(var - var_real) / var_real))


def _fit(window: Sequence[float]) -> tuple[float, float] | None:
    mean, var = _moments(window) if len(window) > 1 else (0.0, 0.0)
    return (mean, var) if var > 0.0 else None


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def _below(x: float, mean: float, var: float) -> float:
    """Phi((x - mean) / s)."""
    return 0.5 * math.erfc((mean - x) / math.sqrt(2.0 * var))
