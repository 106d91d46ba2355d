"""Solvers around a solver: another start and another grid, the same steps."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement, Operator
from sfumato.processes import Time
from sfumato.solvers.base import Solver


class Around(Solver):
    """A solver that takes the steps of the one in its field `solver`."""

    solver: Solver
    warm = True

    @property
    def differentiates(self) -> bool:  # type: ignore[override]
        """As the solver inside."""
        return self.solver.differentiates

    def check(self, operator: Operator) -> None:
        self.solver.check(operator)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Any:
        return self.solver.init(denoiser, m, xt)

    def restart(self, denoiser: Denoiser, m: Measurement, xt: Tensor, memory: Any) -> Any:
        return self.solver.restart(denoiser, m, xt, memory)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        return self.solver.step(denoiser, m, xt, t, s, memory, noise)
