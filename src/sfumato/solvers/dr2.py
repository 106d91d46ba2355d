"""DR2: diffusion-based robust degradation remover for blind face restoration (Wang et al. 2023, 2303.06885)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Downsample, Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed
from sfumato.solvers.ilvr import Bicubic
from sfumato.solvers.replacement import replaced

EXAMPLE = "sfumato restore picture.png --operator denoise --sigma 0.1 --solver dr2 --samples 4 -o out"


@dataclass(frozen=True)
class DR2(Solver):
    """A damaged picture is noised until its damage drowns, held to by its coarse content alone, and left early:

    x_omega ~ q(. | y),   x_{i-1} = x' + phi(r) - phi(x'),  x' = ancestral(x_i),  r ~ q(x_{i-1} | y),
    for i = omega, ..., tau + 1; the result is D(x_tau), the mean of all pictures that might lie under x_tau, so smooth.

    phi is bicubic reduction and enlargement by `factor`; with a factor of 1 each state is a fresh q(x_{i-1} | y), and
    the result is D of y noised to tau. A larger factor or tau removes more damage and more detail. Nothing is known of
    the damage: the measurement is `Measurement(Identity(), y, sigma=0.0)` (A^+ y through another linear operator, in
    the size of the model), and what the result lacks is for an `enhance` network trained on such results. Indices are
    those of the public code, `steps` of the table's from its first to its last; (i + 1) / steps on other processes. The
    step has the small variance (its network learns one); the public code holds each D to [-1, 1], as `Clipped` does.

    Args:
        steps: of the whole grid, of which omega - tau + 1 are taken, one network call each.
        factor: N of the low-pass filter; divides the size of the picture unless it is 1.
        omega: index of the start.
        tau: index of the estimate that is the result.
        enhance: the second stage, a network from the result to a sharp picture, in model space.

    Source: Wang et al. 2023 (2303.06885) algorithm 1; settings of its public code for mild damage.
    """

    steps: int = 100
    factor: int = 4
    omega: int = 42
    tau: int = 22
    enhance: Callable[[Tensor], Tensor] | None = field(default=None, compare=False)
    needs = Linear
    warm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= self.omega < self.steps or self.factor < 1:
            raise ValueError(
                f"DR2: 0 <= tau <= omega < steps and a factor of at least 1, got {self.tau}, {self.omega}, "
                f"{self.steps} and {self.factor}."
            )

    @classmethod
    def medium(cls) -> DR2:
        """The public settings for medium damage."""
        return cls(factor=8, omega=60, tau=35)

    @classmethod
    def strong(cls) -> DR2:
        """The public settings for strong damage."""
        return cls(factor=16, omega=65, tau=35)

    def times(self, process: Gaussian) -> Times:
        grid = indexed(process, self.steps, "linspace")
        return (*grid[self.steps - 1 - self.omega : self.steps - self.tau], 0.0)

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        return denoiser.process.marginal(self._reference(m), t).sample(noise)  # type: ignore[attr-defined]

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """phi, and phi of the reference."""
        y, phi = self._reference(m), _same
        if self.factor > 1:
            down, up = Downsample.bicubic(self.factor, tuple(y.shape[2:])), Bicubic(self.factor)
            phi = lambda x: up(down(x))  # noqa: E731
        return phi, phi(y)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        D = denoiser(xt, t).mean
        if s == 0.0:
            return D if self.enhance is None else self.enhance(D), memory
        xs = denoiser.process.reverse(Estimate(D), xt, t, s).sample(noise)
        phi, seen = memory
        return replaced(denoiser.process, phi, seen, xs, s, noise), memory

    @staticmethod
    def _reference(m: Measurement) -> Tensor:
        assert isinstance(m.operator, Linear)
        return m.operator.pinv(m.y)


def _same(x: Tensor) -> Tensor:
    return x


Recipe = DR2
