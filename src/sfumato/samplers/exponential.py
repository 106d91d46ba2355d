"""Exponential integrators in half log SNR: the one place of their coefficients.

With l = log(alpha / sigma), the lambda of the solver papers and half of this library's, the flow from t to s is, for
h = l_s - l_t and r the share of the step that is done,

    x_s = (sigma_s / sigma_t) x_t + alpha_s h int_0^1 e^{-h (1 - r)} D(r) dr.

Where D is a polynomial in r this needs the moments int_0^1 e^{-k (1 - r)} r^j dr = j! phi_{j+1}(-k) alone, and k = 0
gives ordinary Adams weights. A constant D gives DDIM, so every method is the DDIM step with a weighted mean of known
estimates in the place of D: `blend` makes it and `process.reverse` takes the step, for any alpha, sigma, shift, scale.

The reverse SDE with `eta` times its noise (0: the flow, 1: the reverse SDE) has k = (1 + eta) h in that mean, and noise
of variance sigma_s^2 (1 - e^{-2 eta h}), which `share` turns into the eta of `process.reverse`.

Source: Lu et al. 2022 (2211.01095) eq. 8; Hochbruck & Ostermann 2010, Acta Numerica, for phi.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from sfumato.processes import Gaussian


def moments(k: float, count: int) -> list[float]:
    """int_0^1 e^{-k (1 - r)} r^j dr for j = 0 .. count - 1, for k >= 0."""
    if k >= 1.0:
        values = [-math.expm1(-k) / k]
        for j in range(1, count):
            values.append((1.0 - j * values[-1]) / k)
        return values
    # Upwards the recursion divides by a small k; downwards it forgets its start, at the rate 1 / j.
    value, values = 0.0, []
    for j in reversed(range(1, count + 20)):
        value = (1.0 - k * value) / j
        values.append(value)
    return values[::-1][:count]


def weights(k: float, nodes: Sequence[float]) -> list[float]:
    """w with sum_i w_i p(nodes_i) = int_0^1 e^{-k (1 - r)} p(r) dr for each polynomial p of degree below len(nodes)."""
    parts = moments(k, len(nodes))
    return [sum(c * part for c, part in zip(basis, parts, strict=True)) for basis in lagrange(nodes)]


def lagrange(nodes: Sequence[float]) -> list[list[float]]:
    """Coefficients, lowest power first, of the polynomials that are 1 at one node and 0 at the others."""
    result = []
    for i, node in enumerate(nodes):
        basis = [1.0]
        for j, other in enumerate(nodes):
            if j != i:
                gap = node - other
                basis = [(a - other * b) / gap for a, b in zip([0.0, *basis], [*basis, 0.0], strict=True)]
        result.append(basis)
    return result


def blend(k: float, nodes: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """The constant D whose step is that of the polynomial through `values` at `nodes` (in units of the step)."""
    w = weights(k, nodes)
    total = sum(w)
    return combine([a / total for a in w], values)


def combine(w: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """sum_i w_i values_i."""
    total = values[0] * w[0]
    for a, value in zip(w[1:], values[1:], strict=True):
        total = total.add_(value, alpha=a) if not total.requires_grad else total.add(value, alpha=a)
    return total


def step_size(process: Gaussian, t: float, s: float) -> float:
    """h = l_s - l_t >= 0; infinite for a step from alpha = 0 or to sigma = 0."""
    return 0.5 * float(process.log_snr(s) - process.log_snr(t)) if s < t else 0.0


def share(eta: float, h: float) -> float:
    """The eta of `process.reverse` for noise of variance sigma_s^2 (1 - e^{-2 eta h}); they agree at 0 and 1.

    Held a rounding below tau = 1, which an eta above 1 would otherwise pass in a long step.
    """
    if eta in (0.0, 1.0) or h == 0.0:
        return eta
    return math.sqrt(min(-math.expm1(-2.0 * eta * h), 1.0 - 1e-15) / -math.expm1(-2.0 * h))
