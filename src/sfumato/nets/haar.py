"""Haar wavelets of pictures, orthonormal: averages and details of blocks of 2 x 2, level by level.

For a block with rows (a, b) and (c, d), the four bands are

    average (a + b + c + d) / 2,  across (a - b + c - d) / 2,  down (a + b - c - d) / 2,  diagonal (a - b - c + d) / 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """(average (B, C, H / 2, W / 2), details (B, 3 C, H / 2, W / 2): across, down, diagonal, C channels each).

    Raises:
        ValueError: for odd sides.
    """
    if x.shape[-2] % 2 or x.shape[-1] % 2:
        raise ValueError(f"Haar's blocks are 2 x 2: sides are even, got {tuple(x.shape[-2:])}.")
    a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    return (a + b + c + d) / 2, torch.cat([a - b + c - d, a + b - c - d, a - b - c + d], 1) / 2


def merge(average: Tensor, details: Tensor) -> Tensor:
    """The inverse of `split`, which is its transpose."""
    across, down, diagonal = details.chunk(3, 1)
    low, turn = average + down, across + diagonal
    top = torch.stack([low + turn, low - turn], -1).flatten(-2)
    low, turn = average - down, across - diagonal
    bottom = torch.stack([low + turn, low - turn], -1).flatten(-2)
    return torch.stack([top, bottom], -2).flatten(-3, -2) / 2


def pyramid(x: Tensor, levels: int) -> tuple[Tensor, list[Tensor]]:
    """(average of the last level, details of each level, the finest first)."""
    details = []
    for _ in range(levels):
        x, found = split(x)
        details.append(found)
    return x, details


def rebuilt(average: Tensor, details: Sequence[Tensor]) -> Tensor:
    """The inverse of `pyramid`."""
    for each in reversed(details):
        average = merge(average, each)
    return average
