"""Bars of a melody as latents: principal components of one-hot tokens, scaled to [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.codecs.base import Codec

BAR = 16  # steps
REST, HOLD = 0, 1
DIGITS = 6  # of the numbers, so that a config holds them exactly


@dataclass(frozen=True)
class Bars(Codec):
    """z = 2 (B (onehot(x) - mean) - low) / (high - low) - 1 for each bar x of 16 tokens; back by the largest score.

    The linear code of orthonormal rows B stands for MusicVAE's encoder and decoder (ours); which components are kept
    and the range of each over the training bars belong to it. Tokens (B, T), latents (B, code, T / 16).

    Args:
        basis: (code, 16 x symbols); mean: (16 x symbols,); low, high: (code,).

    Source: Mittal et al. 2021 (2103.16091) section 3.3, for the scaling.
    """

    basis: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def fitted(cls, windows: Tensor, symbols: int, code: int) -> Bars:
        """The code of the bars of windows (N, T): at most `code` components, those that vary.

        Raises:
            ValueError: where all bars are the same.
        """
        x = F.one_hot(windows.reshape(-1, BAR), symbols).flatten(1).double()
        mean = x.mean(0)
        values, columns = torch.linalg.eigh(x.T.cov(correction=0))
        rows, kept = columns.T.flip(0), min(code, int((values > 1e-10).sum()))  # the largest first
        if not kept:
            raise ValueError("all bars are the same: there is nothing to learn.")
        z = (x - mean) @ rows[:kept].T
        numbers = (rows[:kept], mean, z.amin(0), z.amax(0))
        basis, *rest = ((v * 10**DIGITS).round().div(10**DIGITS).tolist() for v in numbers)
        return cls(tuple(map(tuple, basis)), *map(tuple, rest))

    def encode(self, x: Tensor) -> Tensor:
        basis, mean, low, high = self._parts(x.device)
        rows = F.one_hot(x.reshape(len(x), -1, BAR), len(self.mean) // BAR).flatten(2).double()
        z = 2.0 * ((rows - mean) @ basis.T - low) / (high - low) - 1.0
        return z.transpose(1, 2).float()

    def decode(self, z: Tensor) -> Tensor:
        basis, mean, low, high = self._parts(z.device)
        rows = (low + 0.5 * (z.transpose(1, 2).double() + 1.0) * (high - low)) @ basis + mean
        return rows.reshape(len(z), z.shape[2] * BAR, -1).argmax(-1)

    def latent(self, event: tuple[int, ...]) -> tuple[int, ...]:
        return (len(self.basis), event[0] // BAR)

    def _parts(self, device: torch.device) -> list[Tensor]:
        parts = (self.basis, self.mean, self.low, self.high)
        return [torch.tensor(part, dtype=torch.float64, device=device) for part in parts]
