"""Exponential moving averages of weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sfumato.training.sharding import tensors


class Ema:
    """An average of a module's weights: `average` is a copy of the module that lags behind it.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the first weights are forgotten soon.
    Buffers are copied.

    Args:
        module: what is averaged.
        decay: share of the old average kept at each update.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay, self.updates = decay, 0
        self.average = copy.deepcopy(module).requires_grad_(False).eval()

    def modules(self) -> dict[str, nn.Module]:
        """The average by its name in a checkpoint."""
        return {"ema": self.average}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves the average towards the module's weights, in one fused call for all tensors."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        follow(self.average, tensors(module), 1.0 - decay)


def follow(average: nn.Module, towards: tuple[list[Tensor], list[Tensor]], share: float) -> None:
    """Moves the parameters of `average` by a share of the way towards those of another module, and copies its buffers.

    Args:
        towards: `tensors` of the other module.
    """
    mine, theirs = tensors(average), towards
    torch._foreach_lerp_(mine[0], theirs[0], share)
    for own, other in zip(mine[1], theirs[1], strict=True):
        own.copy_(other)
