"""Haar wavelets as a codec: bands as channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.codecs.base import Codec
from sfumato.nets.haar import pyramid, rebuilt


@dataclass(frozen=True)
class Haar(Codec):
    """All bands of `levels` levels as channels, (B, C, H, W) to (B, 4^levels C, H / 2^levels, W / 2^levels).

    The first C channels are the average of the last level; finer details are folded, space to depth. Orthonormal: norms
    and white noise are kept.
    """

    levels: int = 2

    def encode(self, x: Tensor) -> Tensor:
        average, details = pyramid(x, self.levels)
        folded = [F.pixel_unshuffle(each, 2**i) for i, each in enumerate(reversed(details))]
        return torch.cat([average, *folded], 1)

    def decode(self, z: Tensor) -> Tensor:
        channels = z.shape[1] // 4**self.levels
        average, *folded = z.split([channels, *(3 * channels * 4**i for i in range(self.levels))], 1)
        return rebuilt(average, [F.pixel_shuffle(each, 2**i) for i, each in enumerate(folded)][::-1])

    def latent(self, event: tuple[int, ...]) -> tuple[int, ...]:
        return (event[0] * 4**self.levels, *(n // 2**self.levels for n in event[1:]))
