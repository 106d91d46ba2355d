"""Exact moments without sampling: orthogonal columns in place of random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.noise import Noise


class Basis(Noise):
    """Every draw is the next column of sqrt(n) I, n the batch: to linear maps it is as good as an infinite batch.

    Sample second moments (without the mean taken off) of whatever is linear in the draws are the population's; a batch
    needs a row for each draw. A second event element would repeat the first.
    """

    def __init__(self) -> None:
        self.next = 0

    def start(self, std: float) -> Callable[[int, Noise], Tensor]:
        """A source: N(0, std^2), from the first column on."""

        def draw(n: int, noise: Noise) -> Tensor:
            self.next = 0
            return std * self._column(n)

        return draw

    def normal(self, like: Tensor) -> Tensor:
        return self._column(len(like))

    def _column(self, n: int) -> Tensor:
        column = math.sqrt(n) * torch.eye(n, dtype=torch.float64)[:, self.next : self.next + 1]
        assert column.shape[1] == 1, f"{n} rows are too few"
        self.next += 1
        return column
