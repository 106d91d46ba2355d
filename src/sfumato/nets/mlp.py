"""A network for vectors of a few numbers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import Clock


class MLP(nn.Module):
    """`net(u, c_noise, cond)`: (B, d), (B,) to (B, d): residual layers, each shifted by the embedding of the clock.

    Smooth in both arguments, and in forward mode too. The last layer starts at 0.

    Args:
        dim: d.
        width: of the hidden layers.
        depth: number of residual layers.
    """

    def __init__(self, dim: int = 2, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.clock, self.enter, self.leave = Clock(width), nn.Linear(dim, width), nn.Linear(width, dim)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.shifts = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        x, emb = self.enter(u), F.silu(self.clock(c_noise))
        for layer, shift in zip(self.layers, self.shifts, strict=True):
            x = x + layer(F.silu(x + shift(emb)))
        return self.leave(F.silu(x))
