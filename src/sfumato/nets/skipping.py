"""An autoencoder whose fine features go round the code: what a picture's decoder needs beside the code is kept apart.

Source: Luo et al. 2023 (2304.08291) section 3.3, sizes of the public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import ChannelNorm, pad_to


class Skips(NamedTuple):
    """The features of a picture at every level, finest first, and its size."""

    features: list[Tensor]
    size: tuple[int, int]


class Skipping(nn.Module):
    """`encode(x)` to (code, skips), `decode(code, skips)` to a picture; the skips may be another picture's.

    Args:
        channels: of the picture.
        width: features of the entrance.
        factors: of width, features of each level; all but the last halve the resolution.
        latent: channels of the code.
    """

    def __init__(
        self, channels: int = 3, width: int = 8, factors: Sequence[int] = (4, 8, 8, 16), latent: int = 8
    ) -> None:
        super().__init__()
        widths = [width, *(width * f for f in factors)]
        last = len(factors) - 1
        self.stride = 2**last
        self.enter, self.leave = conv(channels, width), conv(width, channels)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (a, b) in enumerate(pairwise(widths)):
            deep = i == last
            shrink = conv(a, b) if deep else nn.Conv2d(a, b, 4, stride=2, padding=1)
            grow = nn.Sequential() if i == 0 else nn.Upsample(scale_factor=2)
            self.down.append(nn.ModuleList([Block(a, a), Block(a, a), Attention(a) if deep else nn.Identity(), shrink]))
            parts = [Block(a + b, b), Block(a + b, b), Attention(b) if deep else nn.Identity()]
            self.up.insert(0, nn.ModuleList([*parts, nn.Sequential(grow, conv(b, a))]))
        self.to_code, self.of_code = nn.Conv2d(widths[-1], latent, 1), nn.Conv2d(latent, widths[-1], 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Skips]:
        """(code, skips) of a picture; the code is (B, latent, ceil(H / stride), ceil(W / stride))."""
        h = self.enter(pad_to(x, self.stride))
        features = [h]
        for level in self.down:
            first, second, attend, shrink = level.children()
            h = first(h)
            features.append(h)
            h = attend(second(h))
            features.append(h)
            h = shrink(h)
        return self.to_code(h), Skips(features, (x.shape[2], x.shape[3]))

    def decode(self, code: Tensor, skips: Skips) -> Tensor:
        """The picture of a code, with these fine features."""
        first, *rest = skips.features
        h = self.of_code(code)
        for level in self.up:
            one, two, attend, grow = level.children()
            h = one(torch.cat([h, rest.pop()], 1))
            h = grow(attend(two(torch.cat([h, rest.pop()], 1))))
        return self.leave(h + first)[:, :, : skips.size[0], : skips.size[1]]


class Block(nn.Module):
    """r(x) + conv(silu(conv(silu(x)))), r the identity or a convolution of one pixel."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.first, self.second = conv(a, b), conv(b, b)
        self.around = nn.Identity() if a == b else nn.Conv2d(a, b, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.around(x) + self.second(F.silu(self.first(F.silu(x))))


class Attention(nn.Module):
    """x + linear attention over all positions, heads of 32 channels: memory grows with the picture, not its square."""

    def __init__(self, width: int, head: int = 32) -> None:
        super().__init__()
        self.head = min(head, width)
        self.norm, self.qkv, self.out = ChannelNorm(width), nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c // self.head, self.head, h * w).unbind(1)
        context = torch.einsum("bhkn,bhvn->bhkv", k.softmax(-1), v)
        mixed = torch.einsum("bhkv,bhkn->bhvn", context, q.softmax(-2))
        return x + self.out(mixed.reshape(b, c, h, w))


def conv(a: int, b: int) -> nn.Conv2d:
    """3 x 3, of the same size."""
    return nn.Conv2d(a, b, 3, padding=1)
