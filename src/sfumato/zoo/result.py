"""What a restoration found: samples of x_0 given y, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Result:
    """Samples of x_0 given each y, in data space.

    Attributes:
        samples: (S, B, *event).
        solver: the solver's settings, in words.
        reason: why this solver, where it was chosen for the user; else empty.
        nfe: calls of the denoiser for each sample.
    """

    samples: Tensor
    solver: str = ""
    reason: str = ""
    nfe: int = 0

    @property
    def mean(self) -> Tensor:
        """Mean of the samples, (B, *event): the best answer in squared error."""
        return self.samples.mean(0)

    @property
    def std(self) -> Tensor:
        """Standard deviation of the samples (divisor S - 1), (B, *event): a map of what y leaves open.

        Raises:
            ValueError: with one sample, which has no spread.
        """
        self._several("a spread")
        return self.samples.std(0)

    def quantile(self, q: float) -> Tensor:
        """The elementwise quantile of the samples, interpolated linearly, (B, *event).

        Raises:
            ValueError: for q outside [0, 1], or with one sample.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile is between 0 and 1, got {q}.")
        self._several("a quantile")
        # torch.quantile holds at most 2^24 numbers: the order statistics serve any size.
        position = q * (len(self.samples) - 1)
        low = min(int(position), len(self.samples) - 2)
        ordered = self.samples.sort(0).values
        return ordered[low].lerp(ordered[low + 1], position - low)

    def coverage(self, x0: Tensor, level: float) -> float:
        """Share of the numbers of x0 inside the central interval of the samples that holds `level` of them.

        S exact samples cover level (S - 1) / (S + 1) on average (0.70 at S = 8 and level 0.9): compare with that.

        Args:
            x0: the truth, (B, *event), data space.
            level: above 0 and below 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"a level is above 0 and below 1, got {level}.")
        if x0.shape != self.samples.shape[1:]:
            raise ValueError(f"the truth has the shape {tuple(x0.shape)}, the samples {tuple(self.samples.shape[1:])}.")
        inside = (x0 >= self.quantile(0.5 - 0.5 * level)) & (x0 <= self.quantile(0.5 + 0.5 * level))
        return float(inside.to(torch.float64).mean())

    def _several(self, what: str) -> None:
        if len(self.samples) < 2:
            raise ValueError(f"{what} needs at least 2 samples, this result has 1: restore with samples=8.")
