"""DDNM, DDNM+: denoising diffusion null-space model (Wang et al. 2023, 2212.00490)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.laws import Normal
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement, Spectral
from sfumato.processes import Gaussian, Time, expand
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed, share
from sfumato.solvers.ddrm import Directions, directions, spectral_step
from sfumato.solvers.ratio import fixed_ratio


class Seen(NamedTuple):
    """What y says: A^+ y; with noise, k of each row, (B,), and the least of them, below which nothing is drawn."""

    image: Tensor
    spread: Tensor | None = None
    least: float = 0.0


@dataclass(frozen=True)
class DDNM(Solver):
    """The range of each clean estimate comes from y, its null space from the prior: D + A^+ (y - A D).

    - sigma_y = 0, DDNM: x_s = alpha_s (D + A^+ (y - A D)) + sigma_s (sqrt(1 - eta^2) eps_hat + eta z), with eps_hat of
      the uncorrected D. A x = y exactly.
    - sigma_y > 0 and a Spectral operator, DDNM+: direction by direction (the paper's appendix I), which is DDRM's step
      with eta_b = 1 in another parametrisation, from a start of pure noise.
    - sigma_y > 0 and a Linear operator, simplified DDNM+:
      x_s = alpha_s (D + lambda A^+ (y - A D)) + sqrt(gamma) z, with lambda = 1, gamma = sigma_s^2 - (alpha_s k)^2
      where that is positive, else lambda = sigma_s / (alpha_s k), gamma = 0. Its null space too gets the reduced
      noise. k is the noise of A^+ y, taken alike in all directions: sigma_y in the paper, whose A^+ has unit gain;
      elsewhere sigma_y |A^+ w| / |A A^+ w| for one white w (ours). The inverse of a Radon transform magnifies noise
      several times, and with unit gain the result kept it. Once sigma_s < alpha_s k nothing is drawn any more: where k
      is large, the samples of one y hardly differ, and their spread says nothing.

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

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Directions | Seen:
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        if m.sigma > 0.0 and isinstance(operator, Spectral):
            return directions(m, process, xt)
        if m.sigma == 0.0:
            return Seen(operator.pinv(m.y))
        spread = m.sigma * gain(operator, m.y)
        return Seen(operator.pinv(m.y), spread, float(spread.min()))

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        if isinstance(memory, Directions):
            return spectral_step(denoiser, m, xt, t, s, memory, noise, eta=self.eta, eta_b=1.0), memory
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        D = denoiser(xt, t).mean
        gap, alpha, level = memory.image - operator.project(D), process.alpha(s), process.sigma(s)
        if memory.spread is None:
            law = fixed_ratio(process, D, xt, t, s, self.eta)
            law = replace(law, mean=law.mean + alpha * gap)
        else:
            floor = expand(alpha * memory.spread, xt)
            std = 0.0 if level <= alpha * memory.least else (level**2 - floor**2).clamp(min=0.0).sqrt()
            law = Normal(process.marginal(D + (level / floor).clamp(max=1.0) * gap, s).mean, std)
        return law.sample(noise), memory


def gain(operator: Linear, y: Tensor) -> Tensor:
    """How much noise grows in A^+: |A^+ w| / |A A^+ w| of each row, (B,), for one white w shaped as a row of y.

    The root mean square of 1 / s over the directions that A sees; 1 where they all have s = 1, or A sees none.
    """
    back = operator.pinv(Noise(0).normal(y[:1]).expand_as(y))
    grown, seen = (v.flatten(1).norm(dim=1) for v in (back, operator(back)))
    return torch.where(seen > 0.0, grown / seen, 1.0)


Recipe = DDNM
