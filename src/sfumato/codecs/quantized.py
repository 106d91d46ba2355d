"""Levels of brightness as categories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.codecs.base import Codec


@dataclass(frozen=True)
class Quantized(Codec):
    """z = floor(levels x), 0 .. levels - 1, int64, of x in [0, 1]; back to x = z / (levels - 1).

    The bins are equal, and black and white stay what they are. 256 levels give 8-bit pictures back exactly.
    """

    levels: int = 256

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ValueError(f"a picture has at least 2 levels, got {self.levels}.")

    def encode(self, x: Tensor) -> Tensor:
        """Values outside [0, 1] go to the level at their end."""
        return (x * self.levels).floor().long().clamp(0, self.levels - 1)

    def decode(self, z: Tensor) -> Tensor:
        return z.to(torch.get_default_dtype()) / (self.levels - 1)
