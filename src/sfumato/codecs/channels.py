"""A scale and a shift for each channel: the columns of a table, which have units of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.codecs.base import Codec


@dataclass(frozen=True)
class Channels(Codec):
    """x_c = scale_c z_c + shift_c, c the first axis of the event.

    Raises:
        ValueError: if the scales are not as many as the shifts, or one of them is 0.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.shift) or not self.scale or 0.0 in self.scale:
            raise ValueError(f"each channel needs a scale that is not 0 and a shift, got {self.scale}, {self.shift}.")

    def encode(self, x: Tensor) -> Tensor:
        scale, shift = self._like(x)
        return (x - shift) / scale

    def decode(self, z: Tensor) -> Tensor:
        scale, shift = self._like(z)
        return z * scale + shift

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[1] != len(self.scale):
            raise ValueError(f"the codec is for {len(self.scale)} channels, got {tuple(x.shape)}.")
        size = (-1, *[1] * (x.ndim - 2))
        made = (torch.tensor(v, dtype=x.dtype, device=x.device).reshape(size) for v in (self.scale, self.shift))
        scale, shift = made
        return scale, shift
