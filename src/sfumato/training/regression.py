"""Regression of the clean picture on the damaged one: what the networks that stand before a restorer are trained by."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sfumato.noise import Noise


class Regression(nn.Module):
    """mean |m(y) - x_0|^p of each sample, (B,), y = cond["image"]: p = 2 makes m(y) the mean of x_0 | y, p = 1 its
    median, elementwise.

    Args:
        net: m, (B, C, H, W) to (B, C, H, W).
        power: p, 1 or 2.
    """

    def __init__(self, net: nn.Module, power: int = 2) -> None:
        super().__init__()
        if power not in (1, 2):
            raise ValueError(f"the power of an error is 1 or 2, got {power}.")
        self.net, self.power = net, power

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); nothing is drawn."""
        error: Tensor = (self.net(cond["image"]) - x0).abs() ** self.power
        return error.flatten(1).mean(1)
