"""A discriminator of two neighbouring states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import Clock


class Critic(nn.Module):
    """`net(x_s, x_t, t)`: one number for each row, (B,); how real x_s is beside x_t, for times t, (B,).

    Args:
        channels: of the states.
        widths: of the layers, each of half the size of the one before.
    """

    def __init__(self, channels: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        self.clock = Clock(widths[0])
        self.enter = nn.Conv2d(2 * channels, widths[0], 3, padding=1)
        self.told = nn.ModuleList(nn.Linear(widths[0], w) for w in widths)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, 2, 1) for a, b in zip((widths[0], *widths), widths, strict=False)
        )
        self.leave = nn.Linear(widths[-1], 1)

    def forward(self, xs: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        emb = F.silu(self.clock(10.0 * t.to(xs)))
        h = self.enter(torch.cat([xs, xt], 1))
        for layer, told in zip(self.layers, self.told, strict=True):
            h = layer(F.leaky_relu(h, 0.2)) + told(emb)[..., None, None]
        out: Tensor = self.leave(F.leaky_relu(h, 0.2).mean((2, 3)))[:, 0]
        return out
