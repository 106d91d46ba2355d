"""Tensors as pictures, with Pillow alone: PNG, a map of colors, an animation."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor

HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], float)  # dark to light


def image(x: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] as 8-bit RGB."""
    return Image.fromarray((255 * x).round().clamp(0, 255).byte().movedim(0, -1).numpy())


def heat(x: Tensor, top: float) -> Image.Image:
    """(H, W) as colors: 0 is black, `top` and above is light yellow."""
    place = (x / max(top, 1e-12)).clamp(0, 1).double().numpy() * (len(HEAT) - 1)
    below = np.minimum(place.astype(int), len(HEAT) - 2)
    share = (place - below)[..., None]
    return Image.fromarray(np.rint(HEAT[below] * (1 - share) + HEAT[below + 1] * share).astype(np.uint8))


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return out.getvalue()


def gif(frames: list[Image.Image], *, milliseconds: int = 90, hold: int = 12) -> bytes:
    """The bytes of an endless animation that shows its last frame `hold` times as long."""
    out = io.BytesIO()
    small = [f.quantize(128, dither=Image.Dither.NONE) for f in frames]
    durations = [milliseconds] * (len(small) - 1) + [hold * milliseconds]
    small[0].save(out, format="GIF", save_all=True, append_images=small[1:], duration=durations, loop=0)
    return out.getvalue()
