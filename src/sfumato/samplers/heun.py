"""Heun's method in sigma / alpha, with churn (Karras et al. 2022, 2206.00364)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Heun(Sampler):
    """EDM's sampler: a DDIM step, then the slope averaged with the one found there. Second order, two calls a step.

    With D_t at x_t, D_s at the first-order end x', and e^h = (sigma_t / alpha_t) / (sigma_s / alpha_s):

        x_s = x' + alpha_s (e^h - 1) / 2 (D_s - D_t),

    which is the average of slopes in x / alpha over sigma / alpha. Steps stay first order, at one call, where e^h
    exceeds `guard` (infinite at sigma_s = 0 and at alpha_t = 0): the trapezoid would extrapolate there.

    Args:
        churn: gamma, the share by which sigma is raised before a step with fresh noise; S_churn / N of the paper, at
            most sqrt(2) - 1. 0: deterministic.
        churn_min, churn_max: range of sigma / alpha that is churned, S_min and S_max.
        churn_noise: S_noise, factor of the churn noise.
        guard: largest e^h of a second-order step (ours; EDM's grids stay below it from 9 steps on).

    Source: Karras et al. 2022 (2206.00364) algorithms 1 and 2. Times are shared by the batch: floats.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0
    guard: float = 10.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.churn <= math.sqrt(2.0) - 1.0 + 1e-12:
            raise ValueError(f"churn is gamma = S_churn / N, from 0 to sqrt(2) - 1 = 0.4142, got {self.churn}.")

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        if self.churn > 0.0:
            xt, t = self._churned(process, xt, t, noise)
        h = 0.5 * (process.log_snr(s) - process.log_snr(t))
        D_t = denoiser(xt, t)
        first = process.reverse(D_t._replace(var=None), xt, t, s, 0.0).mean
        if not h <= math.log(self.guard):
            return first, memory
        weight = 0.5 * process.alpha(s) * math.expm1(h)
        return first.add(denoiser(first, s).mean - D_t.mean, alpha=weight), memory

    def _churned(self, process: Gaussian, xt: Tensor, t: float, noise: Noise) -> tuple[Tensor, float]:
        level = math.exp(-0.5 * process.log_snr(t))
        if not self.churn_min <= level <= self.churn_max:
            return xt, t
        up = process.time_of(process.log_snr(t) - 2.0 * math.log1p(self.churn))
        if up <= t:
            return xt, t
        law = process.forward(xt, t, up)
        return type(law)(law.mean, law.std * self.churn_noise).sample(noise), up


Recipe = Heun
