"""A change of colour that is the same at every pixel, made from the whole picture (PyDiff's global corrector)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import Clock


class Corrector(nn.Module):
    """`net(x, level)`: x + three convolutions 1 x 1 of x, (B, C, H, W), the first two scaled and shifted by a vector
    made of the means and spreads of x's channels and of the noise level, (B,). x itself before training.

    Source: Zhou et al. 2023 (2305.10028); the global vector is ours.
    """

    def __init__(self, channels: int = 3, width: int = 32) -> None:
        super().__init__()
        self.clock = Clock(width)
        self.whole = nn.Sequential(nn.Linear(2 * channels, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList([nn.Conv2d(channels, width, 1), nn.Conv2d(width, width, 1)])
        self.modulate = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.leave = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        flat = x.flatten(2)
        told = F.silu(self.whole(torch.cat([flat.mean(2), flat.std(2)], 1)) + self.clock(level))
        h = x
        for layer, modulate in zip(self.layers, self.modulate, strict=True):
            scale, shift = modulate(told)[:, :, None, None].chunk(2, 1)
            h = F.silu(layer(h) * (1.0 + scale) + shift)
        out: Tensor = x + self.leave(h)
        return out
