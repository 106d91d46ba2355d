"""Conditioning by overwriting: what a linear operator saw is written into the state, noised to its level.

Under y = A x_0 without noise, A^+ y is the seen part of x_0 and A^+ A projects onto that part, so a state is made to
agree with a draw k of q(x_s | x_0 = A^+ y) by x <- x + A^+ A (k - x): inpainting with a mask, colourisation with
`Gray`, in any basis. Simple and biased: the rest sees the seen part only through the denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Overwrite(Sampler):
    """`sampler`, with the seen part overwritten by a fresh draw after each step.

    Args:
        sampler: what moves the state.
        measurement: a linear operator and y, one row for each row of the state, model space; its sigma is not used.

    Raises:
        ValueError: for an operator that is not linear.

    Source: Song et al. 2021 (2011.13456) appendix I.2 and I.3.
    """

    sampler: Sampler
    measurement: Measurement

    def __post_init__(self) -> None:
        if not isinstance(self.measurement.operator, Linear):
            raise ValueError(
                f"{type(self).__name__} needs a Linear operator, got {type(self.measurement.operator).__name__}: its "
                "pseudo-inverse says which part of x_0 was seen. DPS takes any operator."
            )

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.sampler.init(denoiser, xt)

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        xs, memory = self.sampler.step(denoiser, xt, t, s, memory, noise)
        return self._written(xs, self._known(denoiser, xs, s, noise)), memory

    def restart(self, denoiser: Denoiser, xt: Tensor, memory: Any) -> Any:
        return self.sampler.restart(denoiser, xt, memory)

    def _known(self, denoiser: Denoiser, x: Tensor, s: Time, noise: Noise) -> Tensor:
        """A draw of q(x_s | x_0 = A^+ y)."""
        process, operator = denoiser.process, self.measurement.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        return process.marginal(operator.pinv(self.measurement.y).to(x), s).sample(noise)

    def _written(self, x: Tensor, known: Tensor) -> Tensor:
        operator = self.measurement.operator
        assert isinstance(operator, Linear)
        return x + operator.project(known - x)


@dataclass(frozen=True)
class Held(Overwrite):
    """`moves` steps of `sampler` at the level of s, with one draw of the seen part for the level, written in before
    the first and again after each of them: NCSN's inpainting. At the end the seen part is A^+ y + sigma_s z.

    Args:
        moves: T, steps from s to s; `sampler` makes one move in each.

    Source: Song & Ermon 2019 (1907.05600) algorithm 2.
    """

    moves: int = 100

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        known = self._known(denoiser, xt, s, noise)
        x = self._written(xt, known)
        for _ in range(self.moves):
            x, memory = self.sampler.step(denoiser, x, s, s, memory, noise)
            x = self._written(x, known)
        return x, memory
