"""Holes: pictures of which a part is not known, and the mask that says which."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sfumato.data.damages.base import Damage, Range, drawn, uniforms
from sfumato.noise import Noise

BLANK = 0.5  # of a hole


def holed(x: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """x with its holes grey, and "mask", 1 in the holes, (1, H, W)."""
    return {"image": torch.where(mask > 0.5, BLANK, x), "mask": mask}


@dataclass(frozen=True)
class Hole(Damage):
    """Brush strokes or a rectangle, each half of the time, over a share of the picture. Beside y: "mask", 1 in holes.

    A stroke is a walk of 4 to 12 corners that turns by 2 pi / 5 +- 2 pi / 15, back and forth; its segments have the
    length of a few brushes. Strokes are added until the share is covered. A rectangle has sides in the ratio 1/2 to 2.

    Args:
        share: of the picture; 20 to 30 % in the paper's free-form masks.
        brush: width in pixels (ours: 12 to 40 of 256 in the public code, less for the smaller crops of training).

    Source: Saharia et al. 2022 (2111.05826) section 4; Yu et al. 2019 (1806.03589) algorithm 1 for strokes.
    """

    share: Range = (0.2, 0.3)
    brush: Range = (4.0, 16.0)

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        u = uniforms(noise, 2)
        share, make = drawn(u[0], self.share), self.strokes if u[1] < 0.5 else rectangle
        return holed(x, make((x.shape[1], x.shape[2]), share, noise).to(x))

    def strokes(self, shape: tuple[int, int], share: float, noise: Noise) -> Tensor:
        """Strokes (1, H, W) that cover at least this share."""
        h, w = shape
        picture = Image.new("L", (w, h))
        pen = ImageDraw.Draw(picture)
        covered = 0.0
        while covered < share:
            u = uniforms(noise, 5 + 2 * 12).tolist()
            wide = round(drawn(torch.tensor(u[0]), self.brush))
            x, y, angle = u[1] * w, u[2] * h, 2 * math.pi * u[3]
            for i in range(4 + int(9 * u[4])):
                turn = 2 * math.pi / 5 + 2 * math.pi / 15 * (2 * u[5 + 2 * i] - 1)
                angle += math.pi - turn if i % 2 else turn
                far = wide * (1 + 3 * u[6 + 2 * i])
                end = (x + far * math.cos(angle), y + far * math.sin(angle))
                pen.line([(x, y), end], fill=255, width=wide)
                pen.ellipse([end[0] - wide / 2, end[1] - wide / 2, end[0] + wide / 2, end[1] + wide / 2], fill=255)
                x, y = min(max(end[0], 0.0), w - 1.0), min(max(end[1], 0.0), h - 1.0)
                covered = sum(picture.histogram()[128:]) / (h * w)
                if covered >= share:
                    break
        return (torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(1, h, w) > 127).float()


def rectangle(shape: tuple[int, int], share: float, noise: Noise) -> Tensor:
    """A rectangle (1, H, W) of this share of the picture, its place and its shape drawn."""
    h, w = shape
    u = uniforms(noise, 3)
    root = math.sqrt(drawn(u[0], (0.5, 2.0), log=True))
    high = min(h, max(1, round(math.sqrt(share * h * w) * root)))
    wide = min(w, max(1, round(share * h * w / high)))
    top, left = int(u[1] * (h - high + 1)), int(u[2] * (w - wide + 1))
    mask = torch.zeros(1, h, w)
    mask[:, top : top + high, left : left + wide] = 1.0
    return mask


@dataclass(frozen=True)
class Uncrop(Damage):
    """The picture is to be continued over one side, or over all four, half of the time: half of its area is unknown.

    It is made over the whole picture, and says little of a small crop: train at the size of the pictures.

    Args:
        share: of the area that is unknown.

    Source: Saharia et al. 2022 (2111.05826) section 5.3; the share of the public re-implementation.
    """

    share: float = 0.5

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        h, w = x.shape[1:]
        u = uniforms(noise, 2)
        mask = torch.ones(1, h, w)
        if u[0] < 0.5:
            high, wide = (round(n * math.sqrt(1.0 - self.share)) for n in (h, w))
            top, left = (h - high) // 2, (w - wide) // 2
        else:
            side = int(4 * u[1])  # that is unknown: above, below, left, right
            high, wide = (round(h * (1.0 - self.share)), w) if side < 2 else (h, round(w * (1.0 - self.share)))
            top, left = (h - high if side == 0 else 0), (w - wide if side == 2 else 0)
        mask[:, top : top + high, left : left + wide] = 0.0
        return holed(x, mask)
