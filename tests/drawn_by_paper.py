"""Draws of N(e, v) along a list of levels, by the formulas of the papers with the exact noise estimate."""

from __future__ import annotations

import math


def ancestral(v: float, e: float, gammas: list[float], *, noise: bool = True) -> tuple[float, float]:
    """Mean and variance of a draw by algorithm 2 of SR3, from N(0, 1) at the first of `gammas` down to gamma = 1:

    x_(n-1) = (x_n - (1 - alpha_n) / sqrt(1 - gamma_n) f) / sqrt(alpha_n) + sqrt(1 - alpha_n) z, no z at the last step.
    """
    mean, var = 0.0, 1.0
    for gamma, after in zip(gammas, [*gammas[1:], 1.0], strict=True):
        alpha = gamma / after
        a, s2 = math.sqrt(gamma), 1.0 - gamma
        # f = (x - a D) / s with D = e + a v / (a^2 v + s^2) (x - a e): linear in x
        gain = a * v / (gamma * v + s2)
        slope = (1.0 - a * gain) / math.sqrt(s2)
        shift = -a * (e - gain * a * e) / math.sqrt(s2)
        k = (1.0 - alpha) / math.sqrt(s2)
        mean = (mean - k * (slope * mean + shift)) / math.sqrt(alpha)
        var = var * ((1.0 - k * slope) / math.sqrt(alpha)) ** 2
        if after < 1.0 and noise:
            var += 1.0 - alpha
    return mean, var
