"""Zero-shot solvers: samplers that are also handed a measurement. Frozen settings, no y inside.

Three forms, one surface `Solver(...)(denoiser, m, noise) -> x0`:
- a `Guided` solver defines `guide(denoiser, m) -> Denoiser`, E[x0 | xt] into E[x0 | xt, y], and has a sampler;
- others define `step`, short since `process.reverse` gives the ancestral part;
- a few override `trajectory` (variational methods, particles).
What else a method finds (operator parameters, weights) is in the last `step.memory`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Decoded, Linear, Measurement, Operator, Spectral
from sfumato.processes import Gaussian, Table, Time
from sfumato.samplers import DDIM, Sampler, Step, Times, blank, trajectory

_DATA = -2.0 * math.log(2.0)  # log SNR at which alpha = sigma / 2


class Solver(ABC):
    """Frozen settings of a posterior sampler. A subclass is a dataclass with a field `steps`.

    Attributes:
        needs: the least type of operator that the method can use.
        warm: whether `start` knows the data, so that a grid may begin at any time.
        climbs: whether it follows the gradient of any log p(y | A x_0), so that counts and speckle will do as noise.
        differentiates: whether it takes gradients through the denoiser, which keeps its activations in memory.
    """

    steps: int = 100
    needs: ClassVar[type[Operator]] = Operator  # type: ignore[type-abstract]
    warm: ClassVar[bool] = False
    climbs: ClassVar[bool] = False
    differentiates: ClassVar[bool] = False

    def times(self, process: Gaussian) -> Times:
        """The grid of the run: uniform in log SNR unless the paper names one."""
        return grids.log_snr(process, self.steps)

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        """State at t = times[0], (B, *event): a draw from the prior; below t = 1, noise of that level and no data."""
        process, like = denoiser.process, self.like(denoiser, m)
        whole = isinstance(t, float) and t == 1.0
        return (process.prior(like) if whole else process.marginal(like, t)).sample(noise)

    def like(self, denoiser: Denoiser, m: Measurement) -> Tensor:
        """Zeros shaped as the state, (B, *event), in the real dtype of y, on the device of the denoiser."""
        dtype = m.y.real.dtype if m.y.is_complex() else m.y.dtype
        return torch.zeros(len(m), *m.event, dtype=dtype, device=blank(denoiser, (0,)).device)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Any:
        """Memory before the first step."""
        return None

    def found(self, memory: Any) -> Tensor | None:
        """The operator's parameters as a blind solver found them, a set for each row, from its last memory; or None."""
        return None

    def restart(self, denoiser: Denoiser, m: Measurement, xt: Tensor, memory: Any) -> Any:
        """Memory after a move upwards in a grid that travels: kept, unless it is a history."""
        return memory

    @abstractmethod
    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        """(x_s, memory) from x_t, for s <= t."""

    def trajectory(
        self, denoiser: Denoiser, m: Measurement, noise: Noise, *, x1: Tensor | None = None, times: Times | None = None
    ) -> Iterator[Step]:
        """Yields the start and the state after each step, in model space.

        Args:
            m: a measurement in model space (`Measurement.to_model`).
            x1, times: another start, another grid than the method's own.

        Raises:
            TypeError: if the operator lacks an ability that the method needs, or the noise is not of its kind.
            ValueError: without x1, if the grid starts where half the state's amplitude, or more, is data.
            FloatingPointError: when the state is no longer finite, with the step.
        """
        self.check(m.operator)
        if m.likelihood is not None and not self.climbs:
            raise TypeError(
                f"{type(self).__name__} is made for white Gaussian noise, got {m.likelihood}. Use DPS, DAPS, PnPDM or "
                "TDS, which follow the gradient of its likelihood."
            )
        process = denoiser.process
        assert isinstance(process, Gaussian)
        grid = self.times(process) if times is None else times
        if x1 is None:
            if not self.warm and isinstance(grid[0], float) and process.log_snr(grid[0]) > _DATA:
                raise ValueError(
                    f"{type(self).__name__} would start at t = {grid[0]}, where the state is no longer pure noise: "
                    "give `x1`, or more steps, or `times` that begin nearer to 1."
                )
            x1 = self.start(denoiser, m, grid[0], noise)
        run = trajectory(denoiser, _Bound(self, m), x1, grid, noise)
        del x1  # or the start would stay in memory to the end
        for step in run:
            if not _finite(step.x):
                raise FloatingPointError(
                    f"{type(self).__name__} diverged at step {step.index} (t = {step.time}): its state is no longer "
                    "finite. Take more steps, a smaller guidance strength, or check sigma and the range of y."
                )
            yield step

    def __call__(self, denoiser: Denoiser, m: Measurement, noise: Noise) -> Tensor:
        """Samples of x_0 given y, one for each row of y, (B, *event), model space."""
        last = None
        for last in self.trajectory(denoiser, m, noise):
            pass
        assert last is not None
        return last.x

    def check(self, operator: Operator) -> None:
        """Raises TypeError unless the operator has what the method needs, with what to use instead."""
        if isinstance(operator, self.needs):
            return
        have = next(kind.__name__ for kind in (Spectral, Linear, Operator) if isinstance(operator, kind))
        instead = {"Operator": "DPS", "Linear": "DDNM, DiffPIR or MMPS"}[have]
        if isinstance(operator, Decoded):
            instead = "PSLD, ReSample, STSL or DPS, which work on codes"
        raise TypeError(
            f"{type(self).__name__} needs a {self.needs.__name__} operator, got {type(operator).__name__} ({have}). "
            f"Use {instead}, or give the operator what it lacks."
        )


def _finite(x: Tensor) -> bool:
    """Whether no number is NaN or infinite: a sum, to single precision at least, is one pass where a test of each is
    four."""
    return bool(torch.isfinite(x.sum(dtype=torch.promote_types(x.dtype, torch.float32))))


@dataclass(frozen=True)
class _Bound(Sampler):
    """A solver with its measurement, as a sampler: the one driver runs both."""

    solver: Solver
    m: Measurement

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.solver.init(denoiser, self.m, xt)

    def restart(self, denoiser: Denoiser, xt: Tensor, memory: Any) -> Any:
        return self.solver.restart(denoiser, self.m, xt, memory)

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        return self.solver.step(denoiser, self.m, xt, t, s, memory, noise)


@dataclass(frozen=True)
class Guided(Solver):
    """A solver that is a guide: its denoiser says E[x_0 | x_t, y], and any sampler runs it.

    Args:
        steps: steps of the sampler.
        sampler: DDIM by default.
    """

    steps: int = 100
    sampler: Sampler = field(default_factory=DDIM)

    @abstractmethod
    def guide(self, denoiser: Denoiser, m: Measurement) -> Denoiser:
        """The denoiser of x_0 given x_t and y."""

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Any:
        guided = self.guide(denoiser, m)
        return guided, self.sampler.init(guided, xt)

    def restart(self, denoiser: Denoiser, m: Measurement, xt: Tensor, memory: Any) -> Any:
        return memory[0], self.sampler.restart(memory[0], xt, memory[1])

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        guided, inner = memory
        xs, inner = self.sampler.step(guided, xt, t, s, inner, noise)
        return xs, (guided, inner)


def indexed(process: Gaussian, steps: int, spacing: str) -> Times:
    """The grid of a paper that counts integer steps: `grids.table` on a table; on any other process equal steps in t
    (ours), which is the same thing in its own clock."""
    return grids.table(process, steps, spacing=spacing) if isinstance(process, Table) else grids.uniform(steps)


def share(solver: Solver, *names: str) -> None:
    """Raises ValueError unless these fields lie in [0, 1]."""
    for name in names:
        value = getattr(solver, name)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{type(solver).__name__}: {name} is a share, from 0 to 1, got {value}.")
