"""NAFNet told of the noise level: a U-Net without nonlinear activations, whose gates are products of channels.

Source: Chen et al. 2022 (2204.04676) section 3 for the block; Luo et al. 2023 (2304.08291) section 3.2 for the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import ChannelNorm, Clock


class NAFNet(nn.Module):
    """`net(u, c_noise, cond)`: (B, channels, H, W), (B,) to (B, channels, H, W); cond["image"] lies beside u.

    Each level halves the resolution and doubles the features. Sizes that the strides do not divide are padded by zeros
    and cropped back. A block's channel attention averages over the whole picture: what the net does at a pixel depends
    a little on the size of what it is shown.

    Args:
        channels: of u and of the output.
        width: features of the finest level.
        depths: blocks of each level on the way down; on the way up every level has one.
        middle: blocks at the coarsest level.
        image: channels of the condition beside u; 0: none.
    """

    def __init__(
        self, channels: int = 3, width: int = 64, depths: Sequence[int] = (1, 1, 1, 28), middle: int = 1, image: int = 0
    ) -> None:
        super().__init__()
        self.image, self.stride = image, 2 ** len(depths)
        told = 4 * width
        self.clock = Clock(told)
        self.enter = nn.Conv2d(channels + image, width, 3, padding=1)
        self.leave = nn.Conv2d(width, channels, 3, padding=1)
        widths = [width * 2**level for level in range(len(depths) + 1)]
        self.down = nn.ModuleList(
            nn.ModuleList(Block(w, told) for _ in range(n)) for w, n in zip(widths, depths, strict=False)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = nn.ModuleList(Block(widths[-1], told) for _ in range(middle))
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2)) for w in widths[:-1]
        )
        self.up = nn.ModuleList(Block(w, told) for w in widths[:-1])

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        h, w = u.shape[2:]
        if self.image:
            u = torch.cat([u, (cond["image"] if isinstance(cond, Mapping) else cond).to(u)], 1)
        told = self.clock(c_noise)
        first = x = self.enter(F.pad(u, (0, -w % self.stride, 0, -h % self.stride)))
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:  # type: ignore[union-attr, attr-defined]
                x = block(x, told)
            skips.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x, told)
        for grow, block in zip(reversed(self.grow), reversed(self.up), strict=True):
            x = block(grow(x) + skips.pop(), told)
        return self.leave(x + first)[:, :, :h, :w]


class Block(nn.Module):
    """x + beta g(x), then + gamma f(x), both 0 at first: gated depthwise convolution with channel attention, gated MLP.

    Both halves are shifted and scaled by the clock.
    """

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.tell = nn.Linear(told // 2, 4 * width)
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.spread = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        )
        self.attend, self.mix = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.enter, self.leave = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, width, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        shift1, scale1, shift2, scale2 = self.tell(gated(told))[:, :, None, None].chunk(4, 1)
        g = gated(self.spread(self.norm1(x) * (1 + scale1) + shift1))
        x = x + self.beta * self.mix(g * self.attend(g.mean((2, 3), keepdim=True)))
        return x + self.gamma * self.leave(gated(self.enter(self.norm2(x) * (1 + scale2) + shift2)))


def gated(x: Tensor) -> Tensor:
    """The product of the two halves of the channels."""
    a, b = x.chunk(2, 1)
    return a * b
