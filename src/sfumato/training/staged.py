"""Two objectives one after the other: a part of a denoiser is trained first, and then stands still."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise


class Staged(nn.Module):
    """`first` for `steps` steps, then `then`; `fit` tells it the step.

    What the second objective must leave alone it detaches itself: a weight without a gradient does not move.

    Args:
        denoiser: what comes out, whose average is kept.
        first, then: objectives over its parts.
        steps: of the first; 0: none.
    """

    def __init__(self, denoiser: Denoiser, first: nn.Module, then: nn.Module, steps: int) -> None:
        super().__init__()
        if steps < 0:
            raise ValueError(f"the first stage has at least 0 steps, got {steps}.")
        self.denoiser, self.first, self.then, self.steps = denoiser, first, then, steps
        self.early = steps > 0

    def advance(self, step: int) -> None:
        """Chooses the stage that step `step`, from 1, belongs to."""
        self.early = step <= self.steps

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        loss: Tensor = (self.first if self.early else self.then)(x0, cond, noise)
        return loss
