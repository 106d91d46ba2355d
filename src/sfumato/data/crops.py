"""Random crops of a bank of pictures held in memory, each with a random flip and transpose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.noise import Noise, Seeds


class Crops:
    """Items are disjoint-crop-sized shares of the bank: item i belongs to one picture, its place in it is drawn.

    Args:
        pictures: (H, W, C) uint8 arrays; those smaller than `size` are left out.
        size: side of the square crops.
        flat: crops whose standard deviation (of [0, 1] values) is below this are drawn again, up to 4 times.
    """

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], size: int = 64, *, flat: float = 0.02) -> None:
        self.pictures = [torch.from_numpy(np.ascontiguousarray(p)) for p in pictures if min(p.shape[:2]) >= size]
        self.size, self.flat = size, flat
        shares = [max(1, p.shape[0] * p.shape[1] // size**2) for p in self.pictures]
        self._ends = np.cumsum(shares)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): crops (B, C, size, size) in model space, [-1, 1]."""
        crops = [self._crop(item, stream) for item, stream in zip(items, noise.streams, strict=True)]
        return torch.stack(crops).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0), None

    def _crop(self, item: int, noise: Noise) -> Tensor:
        picture = self.pictures[int(np.searchsorted(self._ends, item, side="right"))]
        room = torch.tensor(picture.shape[:2]) - self.size + 1
        for _ in range(4):
            u = noise.uniform(torch.empty(5))
            top, left = (u[:2] * room).long().tolist()
            crop = picture[top : top + self.size, left : left + self.size]
            if crop.float().std() / 255 >= self.flat:
                break
        crop = crop.flip(0) if u[2] < 0.5 else crop
        crop = crop.flip(1) if u[3] < 0.5 else crop
        return crop.transpose(0, 1) if u[4] < 0.5 else crop
