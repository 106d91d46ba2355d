"""Arc: a multistep predictor-corrector in the angle of the noise level (ours), the library's default sampler.

With radius R, the spread that the data are taken to have, let theta = atan2(sigma, R alpha), from 0 (clean) to pi / 2
(alpha = 0), and z = (x - shift) / sqrt(sigma^2 + R^2 alpha^2). The probability-flow ODE is then

    dz / d theta = F,      F = (cos(theta) z - D / R) / sin(theta).

For data N(0, R^2) F is zero: what is left to integrate is how the data differ from a normal law. It stays bounded and
smooth at both ends, where steps in log SNR are infinite and fall back to first order: F tends to -E[x_0] / R where
alpha -> 0, and to 0 where sigma -> 0. No step is special, and ordinary Adams polynomials in theta serve throughout.

Source: the angle and F are the TrigFlow form of EDM (Karras et al. 2022, 2206.00364; Lu & Song 2025, 2410.11081,
section 3.1); the corrector that reuses the predictor's call is that of UniPC (Zhao et al. 2023, 2302.04867).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers import exponential
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Arc(Sampler):
    """One call a step, order p + 1: Adams-Bashforth to predict, Adams-Moulton with the next call to correct.

    The estimate made at a predicted state first corrects the step that led there, then serves the next steps; the state
    after the last step is predicted. One step from t to sigma(s) = 0 with no memory is not D, as DDIM's is: it is
    exact on N(0, R^2). Use it with `grids.arc`. Times are shared by the batch: floats.

    A step over which theta falls below 1 / guard of itself is not corrected: in directions where the data are narrower
    than sigma, F is z / tan(theta), and an error e of the prediction comes back as about e (1 - theta_t / theta_s) / 2.

    Memory: ((theta, F) of the last calls, newest first; corrected z at the newest; z predicted from it).

    Args:
        order: p, the number of slopes that predict; 1 to 4.
        radius: R, near the standard deviation of the data or above it; model space is of the order of one.
        guard: largest theta_t / theta_s of a corrected step.
    """

    order: int = 3
    radius: float = 1.0
    guard: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4 or self.radius <= 0.0:
            raise ValueError(f"Arc needs order 1 to 4 and radius > 0, got {self.order} and {self.radius}.")

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        if s == t:
            return xt, memory
        a, length = self._polar(process, t)
        b, end = self._polar(process, s)
        z = (xt - process.shift(t, xt)) / length
        F = (z * math.cos(a)).sub(denoiser(xt, t).mean, alpha=1.0 / self.radius) / math.sin(a)
        known = ((a, F),)
        if memory is not None:
            past, before, predicted = memory
            if past[0][0] <= self.guard * a:
                # As a difference, so that what was done to x_t since the prediction (a corrector, a projection) stays.
                z = z + (_adams(before, past[0][0], a, (*past, *known)) - predicted)
            known = (*known, *past[: self.order - 1])
        ahead = _adams(z, a, b, known)
        return ahead * end + process.shift(s, xt), (known, z, ahead)

    def _polar(self, process: Gaussian, t: float) -> tuple[float, float]:
        sigma, alpha = process._level(t), self.radius * process.alpha(t)
        return math.atan2(sigma, alpha), math.hypot(sigma, alpha)


def _adams(z: Tensor, a: float, b: float, known: tuple[tuple[float, Tensor], ...]) -> Tensor:
    """z plus the integral from a to b of the polynomial through the known slopes."""
    w = exponential.weights(0.0, [(angle - a) / (b - a) for angle, _ in known])
    return z + (b - a) * exponential.combine(w, [F for _, F in known])
