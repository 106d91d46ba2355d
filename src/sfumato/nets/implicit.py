"""A U-Net for any scale: it enlarges by functions of the place, and mixes in features of the small picture by so much
as the scale says (Gao et al. 2023, 2303.16491)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import Block, Clock


class Implicit(nn.Module):
    """h_up(p) = W2 W1 (h at the nearest cell, (p - its middle) x 2 cells), at the middles p of the pixels of any size.

    Args:
        width, out: channels of h and of the result.
        hidden: rows of W1; there is nothing between the two linear maps.
    """

    def __init__(self, width: int, out: int, hidden: int = 256) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(width + 2, hidden, 1), nn.Conv2d(hidden, out, 1))

    def forward(self, h: Tensor, size: Sequence[int]) -> Tensor:
        near, away = [], []
        for cells, n in zip(h.shape[2:], size, strict=True):
            place = (torch.arange(n, dtype=torch.float64, device=h.device) + 0.5) * (cells / n)
            cell = place.floor().clamp(max=cells - 1)
            near.append(cell.long())
            away.append((2.0 * (place - cell - 0.5)).to(h))
        found = h.index_select(2, near[0]).index_select(3, near[1])
        rows = away[0][:, None].expand(len(h), 1, *size)
        columns = away[1].expand(len(h), 1, *size)
        out: Tensor = self.maps(torch.cat([found, rows, columns], 1))
        return out


class Mix(nn.Module):
    """silu(w1 h + w2 conv(F)), w1 and w2 linear in the scale, for each channel, and w1^2 + w2^2 = 1.

    Args:
        width: of h.
        features: channels of F.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.own, self.other = nn.Linear(1, width), nn.Linear(1, width)
        for layer in (self.own, self.other):
            nn.init.ones_(layer.bias)
        self.conv = nn.Conv2d(features, width, 3, padding=1)

    def weights(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """(w1, w2), (B, width, 1, 1) each, for scales (B,)."""
        own, other = (layer(scale[:, None])[..., None, None] for layer in (self.own, self.other))
        length = (own**2 + other**2).clamp(min=1e-12).sqrt()
        return own / length, other / length

    def forward(self, h: Tensor, features: Tensor, scale: Tensor) -> Tensor:
        own, other = self.weights(scale)
        return F.silu(own * h + other * self.conv(features))


class AnyScale(nn.Module):
    """`net(u, c_noise, cond)`: told a small picture, cond["image"] of any smaller size, and its scale.

    A picture of the size of u is one that was enlarged: it is made small again by the scale. The scale is
    cond["scale"], (B,), one for all rows; else the ratio of the heights; else `scale`.

    Args:
        channels: of the data.
        widths: of the levels, the finest first, each of half the size (rounded up).
        blocks: residual blocks of a level on each way.
        scale: of pictures that say no other.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 256),
        blocks: int = 2,
        *,
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        scale: float = 4.0,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.scale, first, width = scale, widths[0], 4 * widths[0]
        self.clock = Clock(width)
        self.seen = nn.Conv2d(channels, first, 3, padding=1)
        self.body = nn.Sequential(*(_Residual(first) for _ in range(blocks)))
        self.head = Implicit(first, channels, hidden)
        self.enter = nn.Conv2d(2 * channels, first, 3, padding=1)
        pairs = list(pairwise(widths))
        self.pyramid = nn.ModuleList(nn.Conv2d(channels if i == 0 else a, b, 3, 2, 1) for i, (a, b) in enumerate(pairs))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.mixes = nn.ModuleList(Mix(b, b) for _, b in pairs)
        self.grow = nn.ModuleList(Implicit(b, a, hidden) for a, b in pairs)
        self.down, self.up = (
            nn.ModuleList(
                nn.ModuleList(Block(w, width, 2, level in attention, dropout) for _ in range(blocks))
                for level, w in enumerate(widths)
            )
            for _ in range(2)
        )
        self.leave = nn.Conv2d(first, channels, 3, padding=1)
        for p in self.leave.parameters():
            nn.init.zeros_(p)

    def told(self, cond: Any, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The small picture and its scale, (B,)."""
        if cond is None or "image" not in cond:
            raise ValueError('this network enlarges a picture: give {"image": y}.')
        y = cond["image"]
        if "scale" in cond:
            scale = float(cond["scale"].flatten()[0])
            if bool((cond["scale"] != scale).any()):
                raise ValueError(f"the scale is one for the whole batch, got {cond['scale'].tolist()}.")
        else:
            scale = self.scale if tuple(y.shape[2:]) == tuple(size) else size[0] / y.shape[2]
        if tuple(y.shape[2:]) == tuple(size):
            y = small(y, scale)
        return y, torch.full((len(y),), scale, dtype=y.dtype, device=y.device)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        y, scale = self.told(cond, u.shape[2:])
        features = self.head(self.body(self.seen(y.to(u))), u.shape[2:])
        scale, emb = scale.to(u), F.silu(self.clock(c_noise))
        x, skips, pyramid = self.enter(torch.cat([u, features], 1)), [], [features]
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[union-attr, attr-defined]
                x = block(x, emb)
            if level < len(self.shrink):
                skips.append(x)
                x = self.shrink[level](x)
                pyramid.append(self.pyramid[level](pyramid[-1]))
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                mixed = self.mixes[level](x, pyramid[level + 1], scale)
                skip = skips.pop()
                x = self.grow[level](mixed, skip.shape[2:]) + skip
            for block in self.up[level]:  # type: ignore[union-attr, attr-defined]
                x = block(x, emb)
        out: Tensor = self.leave(F.silu(x))
        return out


def small(x: Tensor, scale: float) -> Tensor:
    """x at 1 / scale of its size, rounded up: bicubic with antialiasing; x itself at 1."""
    if scale < 1.0:
        raise ValueError(f"a picture is enlarged by 1 or more, got {scale}.")
    size = [max(1, math.ceil(n / scale)) for n in x.shape[2:]]
    return x if size == list(x.shape[2:]) else F.interpolate(x, size, mode="bicubic", antialias=True)


class _Residual(nn.Module):
    """x + conv(relu(conv(x))): a block of EDSR."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out
