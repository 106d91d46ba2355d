"""A warm start: any solver, from the linear estimate noised to a level that fits the damage (ours)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement, Operator
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.around import Around
from sfumato.solvers.base import Solver
from sfumato.solvers.ddnm import DDNM


@dataclass(frozen=True)
class Warm(Around):
    """The solver started where noise over signal is `level`, from x_t = alpha x_lin + sigma z, few steps from there.

    x_lin = A^T (A A^T + (sigma_y / spread)^2 I)^{-1} y,

    the linear estimate of data of standard deviation `spread` about 0. The level is to be about as large as the error
    of x_lin: less and the error stays, more and calls are spent on what y says already. The same idea as `CCDF`, on
    levels in place of times, and on a grid of its own, uniform in log SNR from the level down (ours).

    Args:
        solver: takes the steps.
        level: sigma / alpha of the start, in model space; 3 forgets the grey of lost pixels (pictures in [-1, 1]).
        steps: of the grid.
        spread: of the detail that x_lin is to find, in model space.
    """

    solver: Solver = field(default_factory=lambda: DDNM(eta=1.0))
    level: float = 3.0
    steps: int = 20
    spread: float = 0.25

    def __post_init__(self) -> None:
        if not (self.level > 0.0 and self.spread > 0.0):
            raise ValueError(f"Warm: level and spread are positive, got {self.level} and {self.spread}.")

    def check(self, operator: Operator) -> None:
        super().check(operator)
        if not isinstance(operator, Linear):
            raise TypeError(
                f"Warm starts from the linear estimate, and {type(operator).__name__} is not linear: "
                f"use {type(self.solver).__name__} itself."
            )

    def times(self, process: Gaussian) -> Times:
        return grids.log_snr(process, self.steps, start=float(process.time_of(-2.0 * math.log(self.level))))

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(m.operator, Linear)
        return process.marginal(m.operator.ridge(m.y, (m.sigma / self.spread) ** 2), t).sample(noise)
