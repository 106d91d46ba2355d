"""A residual network of one number: an energy, with spectral norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from sfumato.nets.unet import CONV, Clock


class EnergyNet(nn.Module):
    """`net(x, c_noise, cond)`: (B, channels, *size), (B,) to f, (B,).

    Residual blocks of leaky ReLUs, halved in resolution between the widths, summed over positions; the level scales and
    shifts the features, and weighs the sum. Every linear map but the clock's has spectral norm 1, which keeps the
    Langevin chains of an energy from running away. Built for gradients of gradients: no normalisation layers.

    Args:
        channels: of the data.
        widths: feature channels of each level, the finest first.
        blocks: residual blocks of a level.
        dims: 1 for signals, 2 for images.
        stride: of the entrance; 2 quarters the work on images.
    """

    def __init__(
        self, channels: int = 3, widths: Sequence[int] = (64, 128), blocks: int = 2, *, dims: int = 2, stride: int = 1
    ) -> None:
        super().__init__()
        conv, width = CONV[dims], 4 * widths[0]
        self.clock = Clock(width)
        self.enter = spectral_norm(conv(channels, widths[0], 3, padding=1, stride=stride))
        self.blocks = nn.ModuleList()
        before = widths[0]
        for level, w in enumerate(widths):
            for i in range(blocks):
                self.blocks.append(EnergyBlock(before, w, width, dims, shrink=level > 0 and i == 0))
                before = w
        self.weigh = nn.Linear(width, before)
        self.leave = spectral_norm(nn.Linear(before, 1, bias=False))  # a constant moves no sample

    def forward(self, x: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        emb = F.silu(self.clock(c_noise))
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, emb)
        total = F.leaky_relu(h, 0.2).flatten(2).sum(-1)
        return (self.leave(total).squeeze(1) + (total * self.weigh(emb)).mean(1)).to(x.dtype)


class EnergyBlock(nn.Module):
    """shortcut(x) + conv(lrelu(conv(lrelu(x)) (1 + scale) + shift)), both halved in resolution if asked."""

    def __init__(self, width: int, out: int, emb: int, dims: int, *, shrink: bool) -> None:
        super().__init__()
        conv = CONV[dims]
        self.pool = {1: F.avg_pool1d, 2: F.avg_pool2d}[dims] if shrink else None
        self.conv1 = spectral_norm(conv(width, out, 3, padding=1))
        self.conv2 = spectral_norm(conv(out, out, 3, padding=1))
        self.modulate = nn.Linear(emb, 2 * out)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        self.shortcut = spectral_norm(conv(width, out, 1)) if width != out else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(x, 0.2))
        scale, shift = self.modulate(emb).reshape(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        h = self.conv2(F.leaky_relu(h * (1 + scale) + shift, 0.2))
        x = (x if self.shortcut is None else self.shortcut(x)) + h
        return x if self.pool is None else self.pool(x, 2)
