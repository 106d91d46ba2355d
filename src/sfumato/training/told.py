"""The loss of a denoiser whose condition is made anew for each item: filled, corrupted, improved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.training.objectives import Denoising, Weight
from sfumato.training.times import TimeLaw


class Told(Denoising):
    """`Denoising` under `told(cond, noise)` in the place of `cond`."""

    def __init__(
        self,
        denoiser: Denoiser,
        times: TimeLaw | None,
        weight: Weight | None,
        told: Callable[[Any, Noise], Any],
    ) -> None:
        super().__init__(denoiser, times, weight)
        self.told = told

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        return super().forward(x0, self.told(cond, noise), noise)
