"""DEIS: fast sampling with exponential integrators (Zhang & Chen 2023, 2204.13902)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers import exponential
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class DEIS(Sampler):
    """tAB-DEIS: the polynomial in t through the last eps, integrated exactly along the flow. One call a step.

        x_s / alpha_s = x_t / alpha_t + sum_j eps_j integral_t^s L_j(tau) d rho(tau),   rho = sigma / alpha,

    L_j the Lagrange polynomials of the times of the last `degree` + 1 calls; degree 0 is DDIM. The integrals are taken
    by parts, so that an infinite rho' at t = 0 is met nowhere, and by Gauss' rule in sqrt(tau - s). The order of
    convergence is degree + 1 where eps is smooth in t. The first steps have the calls that there are, and the error of
    their lower degree, which is small where D hardly moves yet; a step from alpha = 0 is DDIM's. Run it on
    `grids.power`, as the paper does. Times are shared by the batch: floats.

    Memory: (t, eps) of the last calls, newest first.

    Args:
        degree: r of the paper, from 0 on.
        in_rho: the polynomial is in rho in the place of t: rhoAB-DEIS.

    Raises:
        ValueError: for a negative degree.

    Source: Zhang & Chen 2023 (2204.13902) section 3, ingredients 1 to 4; rhoAB: section 4 and public code.
    """

    degree: int = 3
    in_rho: bool = False

    def __post_init__(self) -> None:
        if self.degree < 0:
            raise ValueError(f"the degree of the polynomial is at least 0, got {self.degree}.")

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D = denoiser(xt, t).mean
        known = ((t, process.eps(xt, D, t)), *(memory or ()))
        later = known[: self.degree]
        if s == t or process.log_snr(t) == -math.inf:
            return process.reverse(Estimate(D), xt, t, s, 0.0).mean, later
        if self.in_rho:  # a call at alpha = 0 has no rho
            known = tuple(point for point in known if process.log_snr(point[0]) > -math.inf)
        w = self._weights(process, s, [time for time, _ in known])
        eps = exponential.combine(w, [value for _, value in known])
        # The step of DDIM with this eps in the place of the last one: D moves by -sigma / alpha times the difference.
        ratio = math.exp(-0.5 * process.log_snr(t)) * process.scale
        return process.reverse(Estimate(D - ratio * (eps - known[0][1])), xt, t, s, 0.0).mean, later

    def _weights(self, process: Gaussian, s: float, times: Sequence[float]) -> list[float]:
        """Shares of the known eps in their mean over the step, which sum to one."""
        if not self.in_rho:
            return in_time(process, s, times)
        here, there = (_rho(process, v) for v in (times[0], s))
        return exponential.weights(0.0, [(_rho(process, time) - here) / (there - here) for time in times])


def in_time(process: Gaussian, s: float, times: Sequence[float]) -> list[float]:
    """integral_t^s L_j(tau) d rho(tau) / (rho_s - rho_t) for each node of `times`, the first of which is t."""
    t = times[0]
    u, gauss = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(64))
    u, gauss = 0.5 * (u + 1.0), 0.5 * gauss
    share = 1.0 - u**2  # of the step that is done at tau; rho is smooth in u also where it is like sqrt(tau)
    rho = torch.exp(-0.5 * process.log_snr(t + (s - t) * share))
    here, there = _rho(process, t), _rho(process, s)
    result = []
    for basis in exponential.lagrange([(time - t) / (s - t) for time in times]):
        slope = sum(j * c * share ** (j - 1) for j, c in enumerate(basis) if j)
        inner = float((gauss * 2.0 * u * rho * slope).sum())
        result.append((sum(basis) * there - basis[0] * here - inner) / (there - here))
    return result


def _rho(process: Gaussian, t: float) -> float:
    log_snr: float = process.log_snr(t)
    return math.exp(-0.5 * log_snr)


Recipe = DEIS
