"""DDNM, DDNM+: denoising diffusion null-space model (Wang et al. 2023, 2212.00490)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.laws import Normal
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement, Spectral
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed, share
from sfumato.solvers.ddrm import Directions, directions, spectral_step
from sfumato.solvers.ratio import fixed_ratio


@dataclass(frozen=True)
class DDNM(Solver):
    """The range of each clean estimate comes from y, its null space from the prior: D + A^+ (y - A D).

    - sigma_y = 0, DDNM: x_s = alpha_s (D + A^+ (y - A D)) + sigma_s (sqrt(1 - eta^2) eps_hat + eta z), with eps_hat of
      the uncorrected D. A x = y exactly.
    - sigma_y > 0 and a Spectral operator, DDNM+: direction by direction (the paper's appendix I), which is DDRM's step
      with eta_b = 1 in another parametrisation, from a start of pure noise.
    - sigma_y > 0 and a Linear operator, simplified DDNM+, for A^+ of unit gain:
      x_s = alpha_s (D + lambda A^+ (y - A D)) + sqrt(gamma) z, with lambda = 1, gamma = sigma_s^2 - (alpha_s sigma_y)^2
      where that is positive, else lambda = sigma_s / (alpha_s sigma_y), gamma = 0. Its null space too gets the reduced
      noise.

    Never exact, as DDRM. Times are the paper's, 0, 10, ..., 990 of a table of 1000, and uniform on other processes; an
    upward move draws q(x_s | x_t) as in its algorithm 2 (the public code draws q(x_s | last D)).

    Args:
        steps: network evaluations, without travel.
        eta: share of fresh noise.
        travel_length, travel_repeat: after each `travel_length` steps go back up and down again, `travel_repeat` passes
            in all; 10 and 3 for the paper's best pictures.

    Source: Wang et al. 2023 (2212.00490) eq. 13, 17 to 19, algorithms 1 and 2; eta from its public code.
    """

    steps: int = 100
    eta: float = 0.85
    travel_length: int = 1
    travel_repeat: int = 1
    needs = Linear

    def __post_init__(self) -> None:
        share(self, "eta")

    def times(self, process: Gaussian) -> Times:
        grid = tuple(indexed(process, self.steps, "leading"))
        return grids.travel(grid, jump=self.travel_length, repeats=self.travel_repeat)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Directions | Tensor:
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        if m.sigma > 0.0 and isinstance(operator, Spectral):
            return directions(m, process, xt)
        return operator.pinv(m.y)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        if isinstance(memory, Directions):
            return spectral_step(denoiser, m, xt, t, s, memory, noise, eta=self.eta, eta_b=1.0), memory
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        D = denoiser(xt, t).mean
        gap, alpha, level = memory - operator.project(D), process.alpha(s), process.sigma(s)
        if m.sigma == 0.0:
            law = fixed_ratio(process, D, xt, t, s, self.eta)
            law = replace(law, mean=law.mean + alpha * gap)
        else:
            floor = alpha * m.sigma
            gain = min(1.0, level / floor)
            law = Normal(process.marginal(D + gain * gap, s).mean, math.sqrt(max(level**2 - floor**2, 0.0)))
        return law.sample(noise), memory


Recipe = DDNM
