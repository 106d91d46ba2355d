"""A frozen U-Net and a small trained one that adds to its features, so that what was seen guides it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import Block, Clock, UNet, pad_to, unshuffle


class Guider(nn.Module):
    """`guider(u, c_noise, image)` to one tensor for each level of a U-Net, shaped as its features; zeros at first.

    The way down of a U-Net with one block a level, that sees the image laid beside u.

    Args:
        entering: channels of u and of the image, together.
        widths: feature channels of each level.
        guided: feature channels of the U-Net that is guided.
        patch: of that U-Net.
    """

    def __init__(self, entering: int, widths: Sequence[int], guided: Sequence[int], patch: int = 1) -> None:
        super().__init__()
        if len(widths) != len(guided):
            raise ValueError(f"a guider needs a width for each of the net's {len(guided)} levels, got {len(widths)}.")
        self.patch, self.stride, emb = patch, patch * 2 ** (len(widths) - 1), 4 * widths[0]
        self.clock = Clock(emb)
        self.enter = nn.Conv2d(entering * patch**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(Block(w, emb, 2, False, 0.0) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.leave = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths, guided, strict=True))
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, u: Tensor, c_noise: Tensor, image: Tensor) -> list[Tensor]:
        emb = F.silu(self.clock(c_noise))
        x = self.enter(unshuffle(pad_to(torch.cat([u, image.to(u)], 1), self.stride), self.patch))
        features = []
        for level, block in enumerate(self.blocks):
            x = block(x if level == 0 else self.shrink[level - 1](x), emb)
            features.append(self.leave[level](x))
        return features


class Piggyback(nn.Module):
    """`net(u, c_noise, cond)`: a frozen U-Net whose features a `Guider` adds to, given an entry "image" of cond.

    Without a condition it is the frozen net, call for call. Only the guider gets gradients.
    """

    def __init__(self, frozen: UNet, guider: Guider) -> None:
        super().__init__()
        self.frozen, self.guider = frozen.requires_grad_(False), guider

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        added = () if cond is None else self.guider(u, c_noise, cond["image"])
        return self.frozen(u, c_noise, None, added)
