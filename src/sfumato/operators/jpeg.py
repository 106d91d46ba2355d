"""JPEG: what the encoder keeps of a picture, as an operator, and the decoder as its pseudo-inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from sfumato.operators.base import Operator, cast

if TYPE_CHECKING:
    from sfumato.codecs import Codec

# by how much chroma is thinned: (rows, columns)
SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2), "4:4:0": (2, 1), "4:1:1": (1, 4)}

# Tables K.1 and K.2 of ITU-T T.81, which libjpeg scales
_LUMA = """16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99"""
_CHROMA = """17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99"""


@dataclass(frozen=True, eq=False)
class JPEG(Operator):
    """y = round(DCT(blocks of YCbCr(x), chroma thinned) / tables): the levels that a JPEG file holds, (B, n).

    `pinv` is the decoder: levels times tables, inverse DCT, chroma repeated, RGB; neither rounded nor clipped. It is no
    linear map, but A A^+ A = A where H and W are multiples of whole blocks (16 for 4:2:0): decoding and encoding again
    changes nothing. In other sizes the border is continued as libjpeg does it, and the outermost blocks may change.

    Levels follow libjpeg's integers but where a number lies within its rounding of a tie. The derivative of rounding is
    0 nearly everywhere; automatic differentiation gives that of the identity (ours).

    Args:
        size: (H, W) of the pictures (B, channels, H, W).
        tables: steps of the quantisation in the order of the frequencies, (3, 8, 8) for Y, Cb, Cr, or (1, 8, 8) for Y
            alone; see `quality` and `tables`.
        sampling: "4:4:4", "4:2:2" (every second column of chroma), "4:2:0" (and row), "4:4:0" (row only),
            "4:1:1" (every fourth column).
        low, high: what black and white are in x.
        channels: 3, or 1 where x is a grey picture. With one table and three channels the file knows the luma alone.
        dropped: chroma is thinned by leaving pixels out, as in the public code of DDRM-JPEG; else by averaging, as
            libjpeg does.

    Raises:
        ValueError: for other tables, samplings, channels or ranges.

    Source: ITU-T T.81 (1992) annexes A and K; JFIF 1.02 for the colors; Kawar et al. 2022 (2209.11888) for the pair.
    """

    size: tuple[int, int]
    tables: Tensor
    sampling: str = "4:2:0"
    low: float = -1.0
    high: float = 1.0
    channels: int = 3
    dropped: bool = False

    def __post_init__(self) -> None:
        if tuple(self.tables.shape) not in ((1, 8, 8), (3, 8, 8)) or not bool((self.tables >= 1).all()):
            raise ValueError(
                f"tables are (1, 8, 8) or (3, 8, 8) numbers of at least 1, got {tuple(self.tables.shape)}."
            )
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"the sampling is one of {', '.join(SAMPLINGS)}, got {self.sampling!r}.")
        if self.channels not in (1, 3) or self.channels < len(self.tables):
            raise ValueError(f"{len(self.tables)} tables need as many channels, 1 or 3, got {self.channels}.")
        if not self.low < self.high:
            raise ValueError(f"low < high is needed, got {self.low} and {self.high}.")

    @classmethod
    def quality(
        cls, size: tuple[int, int], quality: int, sampling: str = "4:2:0", *, low: float = -1.0, high: float = 1.0
    ) -> JPEG:
        """The file that libjpeg writes of a color picture at a quality from 1 to 100."""
        return cls(size, tables(quality), sampling, low, high)

    def __call__(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != (self.channels, *self.size):
            raise ValueError(
                f"this operator was made for pictures {(self.channels, *self.size)}, got {tuple(x.shape)}: make one."
            )
        levels = []
        for plane, table in zip(self._planes(x), cast(self.tables, x), strict=True):
            steps = cosines(plane) / tiled(table, plane)
            levels.append((steps + (steps.round() - steps).detach()).flatten(1))
        return torch.cat(levels, 1)

    def pinv(self, y: Tensor) -> Tensor:
        """The picture that levels decode to, (B, channels, H, W)."""
        planes, start = [], 0
        for i, table in enumerate(cast(self.tables, y)):
            h, w = self.plane(i)
            levels = y[:, start : start + h * w].reshape(-1, 1, h, w)
            plane, start = cosines(levels * tiled(table, levels), inverse=True), start + h * w
            for axis, r in zip((-2, -1), self._factors(i), strict=True):
                plane = plane.repeat_interleave(r, axis)
            planes.append(plane[..., : self.size[0], : self.size[1]])
        if len(planes) == 1:
            picture = planes[0].expand(-1, self.channels, -1, -1)
        else:
            luma, cb, cr = planes
            red, blue = luma + 1.402 * cr, luma + 1.772 * cb
            picture = torch.cat([red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue], 1)
        return (picture + 128.0) * ((self.high - self.low) / 255.0) + self.low

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (self.channels, *self.size)

    def to_model(self, codec: Codec) -> JPEG:
        """The operator of z = codec.encode(x), for an affine codec: levels stay what they are."""
        assert codec.affine is not None
        low, high = codec.encode(torch.tensor([self.low, self.high], dtype=torch.float64)).tolist()
        return replace(self, low=low, high=high)

    def plane(self, i: int) -> tuple[int, int]:
        """Size of a plane of levels (0 is Y): whole blocks."""
        h, w = (8 * math.ceil(math.ceil(n / r) / 8) for n, r in zip(self.size, self._factors(i), strict=True))
        return h, w

    def _factors(self, i: int) -> tuple[int, int]:
        return (1, 1) if i == 0 else SAMPLINGS[self.sampling]

    def _planes(self, x: Tensor) -> list[Tensor]:
        """Y, Cb and Cr about 0, from -128 to 127, thinned and continued to whole blocks, each (B, 1, h, w)."""
        x = (x - self.low) * (255.0 / (self.high - self.low))
        if self.channels == 1:
            colors = [x]
        else:
            red, green, blue = x.split(1, 1)
            luma = 0.299 * red + 0.587 * green + 0.114 * blue
            colors = [luma, (blue - luma) / 1.772 + 128.0, (red - luma) / 1.402 + 128.0][: len(self.tables)]
        planes = []
        for i, color in enumerate(colors):
            (h, w), (down, across) = self.plane(i), self._factors(i)
            # libjpeg continues columns before it thins, and rows after
            rows = -(-self.size[0] // down) * down
            color = functional.pad(color, [0, w * across - x.shape[-1], 0, rows - x.shape[-2]], mode="replicate")
            color = color[..., ::down, ::across] if self.dropped else functional.avg_pool2d(color, (down, across))
            planes.append(functional.pad(color, [0, 0, 0, h - color.shape[-2]], mode="replicate") - 128.0)
        return planes


def tables(quality: int) -> Tensor:
    """Quantisation tables (3, 8, 8) of Y, Cb and Cr at a quality from 1 to 100, by libjpeg's rule in whole numbers:
    clip(floor((S T + 50) / 100), 1, 255), S = floor(5000 / quality) below 50, else 200 - 2 quality."""
    if not 1 <= quality <= 100:
        raise ValueError(f"a quality from 1 to 100 is needed, got {quality}.")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (torch.tensor([int(n) for n in table.split()]).reshape(8, 8) for table in (_LUMA, _CHROMA))
    return ((scale * torch.stack([luma, chroma, chroma]) + 50) // 100).clamp(1, 255)


def cosines(plane: Tensor, *, inverse: bool = False) -> Tensor:
    """The orthonormal 8 x 8 discrete cosine transform of each block of (..., h, w), or its inverse, in its place."""
    k = torch.arange(8, dtype=torch.float64)
    C = torch.cos(math.pi * k[:, None] * (2 * k + 1) / 16) / 2
    C[0] /= math.sqrt(2.0)
    C = cast(C.T if inverse else C, plane)
    for _ in range(2):
        plane = (plane.unflatten(-1, (-1, 8)) @ C.T).flatten(-2).mT
    return plane


def tiled(table: Tensor, plane: Tensor) -> Tensor:
    """A table (8, 8) for each block of (..., h, w), (h, w)."""
    return table.repeat(plane.shape[-2] // 8, plane.shape[-1] // 8)
