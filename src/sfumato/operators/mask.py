"""Masks: inpainting, gaps, lost samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators.base import Spectral


@dataclass(frozen=True, eq=False)
class Mask(Spectral):
    """y = mask x: the size of x is kept, y is zero where nothing was seen, and so is its noise.

    Args:
        mask: true or 1 where seen; broadcastable to (B, *event) from the right: (H, W) serves every channel.
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
