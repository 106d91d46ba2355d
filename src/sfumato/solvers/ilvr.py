"""ILVR: iterative latent variable refinement (Choi et al. 2021, 2108.02938)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed, share
from sfumato.solvers.replacement import ancestral, replaced


@dataclass(frozen=True)
class Bicubic:
    """Bicubic enlargement of images (B, C, H, W) by `factor`, the kernel of the antialiased reduction (a = -0.5)."""

    factor: int

    def __call__(self, y: Tensor) -> Tensor:
        return interpolate(y, scale_factor=self.factor, mode="bicubic", antialias=True)


@dataclass(frozen=True)
class ILVR(Solver):
    """Ancestral steps, after each of which the coarse content is replaced by that of the diffused reference:

    x_s = x' + phi(r) - phi(x'),   x' = ancestral(x_t),  r ~ q(x_s | reference),  phi = up o A.

    The reference enters through A alone: y = A reference, with A a reduction (`Downsample(N)`). With the default
    up = A^+, phi is a projection (ours): the result has A x_0 = y, and each step is that of RePaint without resampling.
    The paper's phi is bicubic both ways: `ILVR.bicubic(N)` on `Downsample.bicubic(N, size)`. It is not idempotent, so
    that phi(x_0) is near phi(reference), not equal. A small N keeps the reference, a large one only its colours.

    The reference is noised to the level just reached; the public code takes the level before the step, and leaves the
    last step out. The ancestral step has the small variance (the public networks learn one).

    Args:
        steps: network evaluations; 100 in the public example.
        until: steps that end below this time are free: 0.2 in the public example, 0 holds to the very end.
        up: enlarges y, (B, *measured) to (B, *event), linearly; A^+ unless given.

    Source: Choi et al. 2021 (2108.02938) algorithm 1; defaults of its public code.
    """

    steps: int = 100
    until: float = 0.0
    up: Callable[[Tensor], Tensor] | None = field(default=None)
    needs = Linear

    def __post_init__(self) -> None:
        share(self, "until")

    @classmethod
    def bicubic(cls, factor: int = 32, until: float = 0.2) -> ILVR:
        """The public example: bicubic reduction and enlargement by 32, the last fifth free."""
        return cls(until=until, up=Bicubic(factor))

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Tensor:
        assert isinstance(m.operator, Linear)
        return (self.up or m.operator.pinv)(m.y)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        operator, up = m.operator, self.up
        assert isinstance(operator, Linear)
        xs = ancestral(denoiser, xt, t, s, noise)
        if s < self.until:
            return xs, memory
        phi = operator.project if up is None else (lambda x: up(operator(x)))
        return replaced(denoiser.process, phi, memory, xs, s, noise), memory


Recipe = ILVR
