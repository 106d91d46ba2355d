"""What a restoration found: samples of x_0 given y, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato import metrics


@dataclass(frozen=True, eq=False)
class Result:
    """Samples of x_0 given each y, in data space.

    Attributes:
        samples: (S, B, *event).
        solver: the solver's settings, in words.
        reason: why this solver, where it was chosen for the user; else empty.
        nfe: calls of the denoiser for each sample.
        found: (S, B, ...), what a blind solver took for the operator's parameters; None where they were known.
    """

    samples: Tensor
    solver: str = ""
    reason: str = ""
    nfe: int = 0
    found: Tensor | None = None

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

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """(low, high), each (B, *event): where x_0 lies with probability `level`, as far as S samples can tell.

        At most (S - 1) / (S + 1) can be held: 0.5 takes 3 samples, 0.9 takes 19. See `metrics.central_interval`.
        """
        self._several("an interval")
        return metrics.central_interval(self.samples, level)

    def coverage(self, x0: Tensor, level: float) -> float:
        """Share of the numbers of x0 inside `interval(level)`, over all items: `level` where the samples are honest.

        Args:
            x0: the truth, (B, *event), data space.
            level: in (0, 1); below (S - 1) / (S + 1), which is what S samples can cover.
        """
        self._several("an interval")
        return float(metrics.coverage(self.samples, x0, level=level).mean())

    def _several(self, what: str) -> None:
        if len(self.samples) < 2:
            raise ValueError(f"{what} needs at least 2 samples, this result has 1: restore with samples=8.")
