"""Augmentation that does not leak: the network is told what was done to a picture, and nothing is done when it samples.

Eight numbers are drawn for each picture, each of them with probability p, else it is 0 and does nothing:

    a_0, a_1  mirrored left to right (always drawn, 0 or 1), top to bottom
    a_2       enlarged by 2^(0.2 a_2), a_2 normal
    a_3       turned by a_3, uniform on [-pi, pi]
    a_4, a_5  stretched by 2^(0.2 a_5) along the direction a_4 and by the inverse across it
    a_6, a_7  moved by a_6 / 8 and a_7 / 8 of the width and height, normal

The network's condition is (a_0, a_1, a_2, cos a_3 - 1, sin a_3, a_5 cos a_4, a_5 sin a_4, a_6, a_7). What is outside is
reflected; numbers between pixels are bicubic (the paper's are filtered with wavelets: ours differ there).

Source: Karras et al. 2022 (2206.00364) appendix F.2, table 6.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.noise import Seeds

LABELS = 9
STEP = 0.2  # log2 of a unit of scale and of stretch
ROOM = 0.125  # of the side, a unit of translation


class Augmented:
    """The pictures of `source`, augmented; the condition is a dict with "augment" (B, 9), and "label" if there is one.

    Args:
        source: of pictures (B, C, H, W).
        p: probability of each change, but for the mirror, which is always drawn.

    Raises:
        ValueError: for a probability outside (0, 1], or items that are no pictures.
    """

    def __init__(self, source: Any, p: float = 0.12) -> None:
        if not 0.0 < p <= 1.0:
            raise ValueError(f"the probability of an augmentation lies in (0, 1], got {p}.")
        self.source, self.p = source, p

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x0, cond) of these items."""
        x0, cond = self.source.batch(items, noise)
        if x0.ndim != 4:
            raise ValueError(f"pictures can be augmented, (B, C, H, W), got {tuple(x0.shape)}: leave it out.")
        a = drawn(len(x0), self.p, noise)
        rest = {} if cond is None else cond if isinstance(cond, dict) else {"label": cond}
        return transformed(x0, a), {**rest, "augment": told(a)}


def drawn(count: int, p: float, noise: Seeds) -> Tensor:
    """The eight numbers of each picture, (count, 8)."""
    u = noise.uniform(torch.empty(count, 10))
    z = noise.normal(torch.empty(count, 4))
    flips = (u[:, :2] < 0.5).float()
    angles = (2.0 * u[:, 2:4] - 1.0) * math.pi
    a = torch.stack([flips[:, 0], flips[:, 1], z[:, 0], angles[:, 0], angles[:, 1], *z[:, 1:].unbind(1)], 1)
    kept = u[:, 4:] < p  # of: the second mirror, scale, turn, stretch, and the two moves
    on = torch.stack([torch.ones_like(kept[:, 0]), *(kept[:, i] for i in (0, 1, 2, 3, 3, 4, 5))], 1)
    return torch.where(on, a, 0.0)


def told(a: Tensor) -> Tensor:
    """What the network is told of the eight numbers, (B, 9): zeros where nothing was done."""
    turn, along, stretch = a[:, 3], a[:, 4], a[:, 5]
    polar = [turn.cos() - 1.0, turn.sin(), stretch * along.cos(), stretch * along.sin()]
    return torch.stack([a[:, 0], a[:, 1], a[:, 2], *polar, a[:, 6], a[:, 7]], 1)


def transformed(x: Tensor, a: Tensor) -> Tensor:
    """Pictures (B, C, H, W) changed as the eight numbers (B, 8) say; untouched rows are the same to the bit."""
    a = a.to(x)
    x = torch.where((a[:, 0] > 0)[:, None, None, None], x.flip(3), x)
    x = torch.where((a[:, 1] > 0)[:, None, None, None], x.flip(2), x)
    moved = (a[:, 2:] != 0).any(1)
    if not bool(moved.any()):
        return x
    grid = F.affine_grid(_sources(a[moved], x.shape[-2:]), list(x[moved].shape), align_corners=False)
    turned = F.grid_sample(x[moved], grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return x.index_put((moved.nonzero()[:, 0],), turned)


def _sources(a: Tensor, size: Any) -> Tensor:
    """Where each place of the new picture comes from, (B, 2, 3), in the units of `affine_grid`: -1 to 1 a side."""
    h, w = size
    inverse = _turned(-a[:, 3]) * (2.0 ** (-STEP * a[:, 2]))[:, None, None]
    by = (2.0 ** (-STEP * a[:, 5]))[:, None]
    inverse = inverse @ _turned(a[:, 4]) @ torch.diag_embed(torch.cat([by, 1.0 / by], 1)) @ _turned(-a[:, 4])
    unit = inverse.new_tensor([w, h])  # turning is in pixels
    inverse = inverse * unit[None, None, :] / unit[None, :, None]
    shift = -2.0 * ROOM * a[:, 6:8, None]
    return torch.cat([inverse, inverse @ shift], 2)


def _turned(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)
