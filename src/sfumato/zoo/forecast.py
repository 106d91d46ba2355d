"""What is said of the unknown rows of a table: samples, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data.stamps import Stamps
from sfumato.data.tables import Numbers, Table
from sfumato.metrics import quantiles


@dataclass(frozen=True, eq=False)
class Forecast:
    """Samples of the numbers of some rows: those after the last (a forecast), or all, gaps filled (an imputation).

    Attributes:
        samples: (S, L, C), in the unit of the data. What was known is the same in each.
        targets: names of the C channels.
        stamps: times of the L rows.
        known: (L, C), whether a number was given.
        past: (L', C), what is known of the rows before a forecast, NaN where missing; none for an imputation.
        past_stamps: their times, L' of them.
        table: the table that was filled, or None.
        about: how the model came to be: rows of its window, steps of training, losses on held-out rows.
    """

    samples: Tensor
    targets: tuple[str, ...]
    stamps: Stamps
    known: Tensor
    past: Tensor
    past_stamps: Stamps
    table: Table | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def mean(self) -> Tensor:
        """Mean of the samples, (L, C)."""
        return self.samples.mean(0)

    @property
    def median(self) -> Tensor:
        """Median of the samples, (L, C): the answer of least absolute error."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> Tensor:
        """The elementwise quantile of the samples, interpolated linearly, (L, C).

        Raises:
            ValueError: for q outside [0, 1].
        """
        return quantiles(self.samples, (q,))[0]

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """(low, high), each (L, C): the central interval that holds `level` of the samples."""
        if not 0.0 < level < 1.0:
            raise ValueError(f"the level of an interval lies between 0 and 1, got {level}.")
        low, high = quantiles(self.samples, (0.5 - 0.5 * level, 0.5 + 0.5 * level))
        return low, high

    def filled(self) -> Table:
        """The table with its gaps filled by the median; every other cell is the same to the bit.

        Raises:
            ValueError: for a forecast, which fills no table.
        """
        if self.table is None:
            raise ValueError("a forecast fills no table: `impute` does.")
        middle = self.median
        values: dict[str, Numbers] = {name: middle[:, c].numpy() for c, name in enumerate(self.targets)}
        return self.table.filled(values)

    def rows(self, levels: Sequence[float]) -> tuple[list[str], list[list[Any]]]:
        """(header, rows) of a long table: time, target, known, mean and the quantiles of these levels."""
        found, mean, words = quantiles(self.samples, levels), self.mean, self.stamps.words()
        header = ["time", "target", "known", "mean", *(f"q{level:g}" for level in levels)]
        body = [
            [words[i], name, int(self.known[i, c]), float(mean[i, c]), *(float(q[i, c]) for q in found)]
            for c, name in enumerate(self.targets)
            for i in range(len(words))
        ]
        return header, body

    def to_frame(self, levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> Any:
        """`rows` as a pandas DataFrame; needs the extra `tables`."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("a DataFrame needs pandas: pip install 'sfumato[tables]'.") from error
        header, body = self.rows(levels)
        return pandas.DataFrame(body, columns=header)

    def plot(self, levels: Sequence[float] = (0.5, 0.9), paths: int = 5) -> Any:
        """A matplotlib figure: each target with a fan of central intervals and a few samples; extra `plot`."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("a plot needs matplotlib: pip install 'sfumato[plot]'.") from error
        shown, middle = self.targets[:8], self.median
        figure = Figure(figsize=(9, 1 + 2.2 * len(shown)), layout="constrained")
        axes = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True))
        before, here = (_places(stamps) for stamps in (self.past_stamps, self.stamps))
        keep = min(len(before), 3 * len(here))
        for c, (name, axis) in enumerate(zip(shown, axes, strict=True)):
            if keep:
                axis.plot(before[-keep:], self.past[-keep:, c], color="black", lw=1)
            seen = torch.where(self.known[:, c].bool(), middle[:, c], torch.nan)
            axis.plot(here, seen, color="black", lw=1)
            hidden = ~self.known[:, c].bool().numpy()
            alone = hidden & ~np.append(hidden[1:], False) & ~np.append(False, hidden[:-1])
            for level in sorted(levels, reverse=True):
                low, high = (bound[:, c].numpy() for bound in self.interval(level))
                look = {"color": "C0", "alpha": 0.6 - 0.45 * level}
                axis.fill_between(here, low, high, where=hidden, lw=0, label=f"{level:.0%}", **look)
                axis.vlines(here[alone], low[alone], high[alone], lw=3, **look)  # a band of one row has no width
            for sample in self.samples[:paths]:
                axis.plot(here, np.where(hidden, sample[:, c], np.nan), color="C0", lw=0.4, alpha=0.6)
            axis.plot(here, np.where(hidden, middle[:, c], np.nan), color="C0", lw=1.2, label="median")
            if alone.any():
                axis.plot(here[alone], middle[:, c].numpy()[alone], ".", color="C0", ms=3)
            axis.set_ylabel(name)
        axes[0].legend(loc="upper left", fontsize=8, ncols=len(levels) + 1)
        figure.autofmt_xdate()
        return figure


def _places(stamps: Stamps) -> Any:
    return stamps.wall.astype("datetime64[us]") if stamps.style else stamps.utc
