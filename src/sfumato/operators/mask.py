"""Masks: inpainting, gaps, lost samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators import drawing
from sfumato.operators.base import Spectral, own


@dataclass(frozen=True, eq=False)
class Mask(Spectral):
    """y = mask x: the size of x is kept, y is zero where nothing was seen, and so is its noise.

    Args:
        mask: true or 1 where seen; broadcastable to (B, *event) from the right: (H, W) serves every channel,
            (B, 1, H, W) is a mask for each row.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        mask = self.mask
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("a mask holds 1 (seen) and 0 (not seen) only.")
        object.__setattr__(self, "mask", mask.to(torch.get_default_dtype()))

    @classmethod
    def random(cls, shape: tuple[int, ...], keep: float, noise: Noise) -> Mask:
        """Each position of `shape` is seen with probability `keep`; of shape (H, W): one mask for all channels."""
        return cls((noise.uniform(torch.empty(shape)) < keep).float())

    @classmethod
    def box(cls, shape: tuple[int, int], noise: Noise, *, size: int = 128, margin: int = 16) -> Mask:
        """A missing square whose corner is uniform inside a margin. Source: DPS (2209.14687): 128 of 256, margin 16."""
        low, high = margin, [n - margin - size for n in shape]
        if min(high) < low:
            raise ValueError(f"a box of {size} with a margin of {margin} does not fit {shape}: make either smaller.")
        top, left = (low + int(u * (h - low + 1)) for u, h in zip(noise.uniform(torch.empty(2)), high, strict=True))
        mask = torch.ones(shape)
        mask[top : top + size, left : left + size] = 0
        return cls(mask)

    @classmethod
    def half(cls, shape: tuple[int, ...], missing: Literal["left", "right", "top", "bottom"] = "right") -> Mask:
        """Half of the picture is missing, of an odd size the smaller half. Source: RePaint (2201.09865)."""
        if missing not in ("left", "right", "top", "bottom"):
            raise ValueError(f"the missing half is left, right, top or bottom, got {missing!r}.")
        axis = -1 if missing in ("left", "right") else -2
        at, n = _positions(shape, axis), shape[axis]
        return cls((at < n - n // 2 if missing in ("right", "bottom") else at >= n // 2).expand(shape))

    @classmethod
    def lines(cls, shape: tuple[int, ...], *, period: int = 2) -> Mask:
        """One row of `period` is seen, the first of them. Source: RePaint (2201.09865), alternating lines."""
        return cls((_positions(shape, -2) % period == 0).expand(shape))

    @classmethod
    def lattice(cls, shape: tuple[int, ...], *, factor: int = 2) -> Mask:
        """One pixel of `factor` in both directions is seen. Source: RePaint (2201.09865), "Super-Resolve 2x"."""
        return cls((_positions(shape, -1) % factor == 0) & (_positions(shape, -2) % factor == 0))

    @classmethod
    def expand(cls, shape: tuple[int, int], *, keep: int = 64) -> Mask:
        """Only the central square is seen, `keep` wide. Source: RePaint (2201.09865): 64 of 256."""
        if not 1 <= keep <= min(shape):
            raise ValueError(f"a centre of 1 to {min(shape)} pixels fits {shape}, got {keep}.")
        rows, columns = (
            (_positions(shape, a) >= (shape[a] - keep) // 2) & (_positions(shape, a) < (shape[a] - keep) // 2 + keep)
            for a in (-2, -1)
        )
        return cls(rows & columns)

    @classmethod
    def strokes(
        cls, shape: tuple[int, int], noise: Noise, *, missing: tuple[float, float] = (0.2, 0.3), width: float = 0.05
    ) -> Mask:
        """Free-form brush strokes, added until the missing share lies between the two bounds (ours: the walk).

        Args:
            missing: bounds on the missing share. Source: free-form masks of 20-30 % in PiGDM and RED-diff (2305.04391).
            width: of the brush, in parts of the shorter side: 0.05 is "narrow", 0.15 "wide".
        """
        return cls(~drawing.strokes(shape, noise, missing, width))

    @classmethod
    def text(cls, shape: tuple[int, int], noise: Noise, *, height: int = 14) -> Mask:
        """Lines of random figures (seven segments, `height` pixels) are missing, like writing over a picture (ours)."""
        return cls(~drawing.text(shape, noise, height))

    @classmethod
    def gaps(cls, length: int, noise: Noise, *, width: int, count: int = 1) -> Mask:
        """`count` gaps of `width` samples are missing in signals (B, C, L), nowhere touching each other."""
        free = length - count * width - (count - 1)
        if width < 1 or count < 1 or free < 0:
            raise ValueError(f"{count} gaps of {width} samples do not fit {length}: make them fewer or shorter.")
        # positions of `count` items among `free + count` places, in order, with room for gap and separator added
        places = noise.permutation(free + count)[:count].sort().values
        starts = places + torch.arange(count) * width
        at = torch.arange(length)
        return cls(~((at >= starts[:, None]) & (at < starts[:, None] + width)).any(0))

    def of_rows(self, index: Sequence[int], y: Tensor) -> Mask:
        return replace(self, mask=own(self.mask, index, y))

    @property
    def s(self) -> Tensor:  # type: ignore[override]
        return self.mask

    def seen(self, y: Tensor) -> Tensor:
        """1 where y is a measurement, 0 where it is empty."""
        return self._s(y)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def Vt(self, x: Tensor) -> Tensor:
        return x

    def V(self, z: Tensor) -> Tensor:
        return z

    def Ut(self, y: Tensor) -> Tensor:
        return y * self._s(y)

    def U(self, z: Tensor) -> Tensor:
        return z * self._s(z)


def _positions(shape: tuple[int, ...], axis: int) -> Tensor:
    """Index along the last axis (-1), (W,), or the one before (-2), (H, 1)."""
    return torch.arange(shape[axis]).reshape(-1, *[1] * (-axis - 1))
