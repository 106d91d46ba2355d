"""DAPS: decoupled annealing posterior sampling (Zhang et al. 2025, 2407.01521)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement, Operator
from sfumato.processes import Gaussian, Time
from sfumato.samplers import DDIM, Times, sample
from sfumato.solvers.base import Solver
from sfumato.solvers.conditional import langevin, sample_gaussian
from sfumato.solvers.on_data import descent, noise_level


@dataclass(frozen=True)
class DAPS(Solver):
    """Denoise by a short ODE, draw x_0 about the result given y, noise the draw to the next level.

    x_hat = ODE(x_t),   x_0 ~ N(x_hat, r_t^2 I) N(y; A x_0, tau^2 I) by Langevin moves,   x_s = alpha_s x_0 + sigma_s z,

    r_t = sigma_t / alpha_t. It would keep the marginals if x_0 were drawn from p(x_0 | x_t, y); about the end of an ODE
    N(x_hat, r_t^2 I) is too wide, and so are the samples (1.4 to 1.8 times the variance with `Conditional`). The
    network is not differentiated. Levels follow Karras' rule. A time is shared by the batch.

    Args:
        steps: levels.
        ode_steps: Euler steps of the ODE at each, to the level 0.01; one network evaluation a step.
        high, low: first and last level sigma / alpha.
        moves: Langevin moves for each draw.
        size: of the moves, shrinking linearly to a hundredth in the run; below 2 tau^2 / |A|^2.
        tau: standard deviation that y is given in the moves, whatever sigma_y is; not used with a likelihood.

    Source: Zhang et al. 2025 (2407.01521) algorithm 1; defaults of its public code for super-resolution.
    """

    steps: int = 200
    ode_steps: int = 5
    high: float = 100.0
    low: float = 0.1
    moves: int = 100
    size: float = 1e-4
    tau: float = 0.01
    climbs: ClassVar[bool] = True

    def times(self, process: Gaussian) -> Times:
        grid = grids.karras(process, self.steps, sigma_min=self.low, sigma_max=self.high)
        return grid if grid[-1] == 0.0 else (*grid, 0.0)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> int:
        return 0

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float)
        times = descent(process, t, self.ode_steps, low=0.01)
        x_hat = sample(denoiser, DDIM(), x1=xt, times=times if len(times) > 1 else (t, 0.0), noise=noise)
        x0 = self.draw(denoiser, m, x_hat, t, memory / self.steps, noise)
        return process.marginal(x0, s).sample(noise), memory + 1

    def draw(self, denoiser: Denoiser, m: Measurement, x_hat: Tensor, t: float, done: float, noise: Noise) -> Tensor:
        """x_0 about x_hat given y, (B, *event); `done` is the share of the run behind."""
        assert isinstance(denoiser.process, Gaussian)
        size = self.size * (1.0 - 0.99 * done)
        rho = noise_level(denoiser.process, t)
        return langevin(m, x_hat, rho, noise, sigma=self.tau, moves=self.moves, size=size)


@dataclass(frozen=True)
class Conditional(DAPS):
    """DAPS with the exact Gaussian draw in place of Langevin moves, sigma_y for tau; for linear operators (ours)."""

    needs: ClassVar[type[Operator]] = Linear  # type: ignore[type-abstract]
    climbs: ClassVar[bool] = False

    def draw(self, denoiser: Denoiser, m: Measurement, x_hat: Tensor, t: float, done: float, noise: Noise) -> Tensor:
        assert isinstance(denoiser.process, Gaussian)
        return sample_gaussian(m, x_hat, noise_level(denoiser.process, t), noise)
