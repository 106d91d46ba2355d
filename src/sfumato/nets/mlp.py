"""A small network for points and short vectors: plain layers, told the level."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import Clock


class MLP(nn.Module):
    """`net(u, c_noise, cond)`: (B, *event) of `dim` numbers, (B,) to (B, *event), or (B, out) where `out` is given.

    Args:
        dim: numbers in one event; the event's shape is kept.
        width, depth: of the hidden layers.
        vector: length of a vector condition, laid beside the data; 0: none, and a condition is not looked at.
        out: numbers that come out, where they are not those of the data.
        start: factor of the last layer's first weights; 0.0 starts at zero.
    """

    def __init__(
        self, dim: int, width: int = 128, depth: int = 3, *, vector: int = 0, out: int | None = None, start: float = 1.0
    ) -> None:
        super().__init__()
        self.vector, self.out = vector, out
        self.clock, self.enter = Clock(width), nn.Linear(dim + vector, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.leave = nn.Linear(width, dim if out is None else out)
        with torch.no_grad():
            for value in self.leave.parameters():
                value.mul_(start)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        x = u.flatten(1)
        if self.vector:
            x = torch.cat([x, cond.flatten(1)], 1)
        h = self.enter(x) + self.clock(c_noise)
        for layer in self.hidden:
            h = layer(F.silu(h))
        h = self.leave(F.silu(h))
        return h if self.out is not None else h.reshape(u.shape)
