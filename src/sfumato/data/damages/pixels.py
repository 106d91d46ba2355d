"""White noise, JPEG files, grey copies."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.damages.base import Damage, Range, drawn, rounded, uniforms
from sfumato.data.images import LUMA
from sfumato.noise import Noise


@dataclass(frozen=True)
class White(Damage):
    """y = x + sigma n.

    Args:
        sigma: of 255 levels, drawn evenly.
    """

    sigma: Range = (5.0, 50.0)

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        sigma = drawn(uniforms(noise, 1)[0], self.sigma) / 255
        return {"image": x + sigma * noise.normal(x)}


@dataclass(frozen=True)
class Jpeg(Damage):
    """What a JPEG file of the picture says, by a real codec with thinned chroma (4:2:0).

    Args:
        quality: drawn evenly, 1 to 100.
    """

    quality: Range = (5.0, 60.0)

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        return {"image": as_jpeg(x, round(drawn(uniforms(noise, 1)[0], self.quality)))}


def as_jpeg(x: Tensor, quality: int) -> Tensor:
    """x (C, H, W) in [0, 1] through a JPEG file of this quality."""
    levels = (rounded(x) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if len(x) == 1 else levels).save(file, "JPEG", quality=quality, subsampling=2)
    read = np.asarray(Image.open(file), np.float32) / 255
    return torch.from_numpy(read.reshape(*levels.shape)).permute(2, 0, 1).to(x)


@dataclass(frozen=True)
class Grey(Damage):
    """The luma (ITU-R BT.601) in all channels."""

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        if len(x) == 1:
            return {"image": x}
        return {"image": (x * torch.tensor(LUMA).to(x).reshape(3, 1, 1)).sum(0, keepdim=True).expand(3, -1, -1)}
