"""Series: what a table holds as numbers over time, on one scale, cut into windows for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sfumato.data.stamps import Stamps, counted, duration
from sfumato.data.tables import Columns, Table
from sfumato.noise import Seeds


@dataclass(frozen=True, eq=False)
class Series:
    """Channels over one axis of time, and what is known beside them.

    Attributes:
        values: (C, L), float64, NaN where missing.
        covariates: (F, L), known at all times; (0, L) for none.
        time: (L,), in steps.
        static: (S,), numbers known once.
    """

    values: Tensor
    covariates: Tensor
    time: Tensor
    static: Tensor

    @classmethod
    def of(cls, values: Tensor, covariates: Tensor | None = None, static: Tensor | None = None) -> Series:
        """Values (C, L), a step apart, with nothing beside them unless given."""
        length = values.shape[1]
        return cls(
            values.double(),
            torch.zeros(0, length, dtype=torch.float64) if covariates is None else covariates.double(),
            torch.arange(length, dtype=torch.float64),
            torch.zeros(0, dtype=torch.float64) if static is None else static.double(),
        )

    def __len__(self) -> int:
        return self.values.shape[1]

    def cut(self, start: int, stop: int) -> Series:
        """Rows start .. stop - 1."""
        part = slice(start, stop)
        return replace(
            self, values=self.values[:, part], covariates=self.covariates[:, part], time=self.time[part]
        )


@dataclass(frozen=True, eq=False)
class Chosen:
    """What of a table is modelled.

    Attributes:
        table: as read, or resampled.
        targets: names of the channels.
        stamps: of the rows.
        series: their numbers; covariates are the known columns first, then the calendar.
        ahead: rows at the end, given for their known columns, that are to be forecast.
    """

    table: Table
    targets: tuple[str, ...]
    stamps: Stamps
    series: Series
    ahead: int = 0


def choose(
    table: Table,
    *,
    time: str = "",
    targets: Sequence[str] = (),
    known: Sequence[str] = (),
    static: Sequence[str] = (),
    zone: str = "",
    style: str = "",
    step: str = "",
    horizon: int = 0,
) -> Chosen:
    """The series of a table, checked.

    Args:
        time: the column of stamps; "" for none, the rows are then a step apart.
        targets: columns that are modelled; every other column of numbers by default.
        known: columns known at all times. To forecast, the table goes on for `horizon` rows that hold them, the targets
            empty.
        static: columns that hold one number from top to bottom.
        zone, style: of the stamps (`Table.stamps`).
        step: put the rows on an even grid first ("1h", "1d", "1month"): the mean of the numbers of each step.
        horizon: rows to forecast; 0 to fill gaps.

    Raises:
        ValueError: with what does not fit, and where.
    """
    stamps = table.stamps(time, zone, style) if time else counted(len(table))
    beside = {name for name in (time, *known, *static) if name}
    for name in (*targets, *beside):
        table.column(name)
    chosen = tuple(targets) or tuple(name for name in table.names if name not in beside and table.is_numeric(name))
    both = sorted(beside & set(chosen))
    if both:
        raise ValueError(f"column {both[0]!r} is a target and something else: name each column once.")
    if not chosen:
        raise ValueError(f"{table.label} has no column of numbers to model: it has {', '.join(table.names)}.")
    if step:
        table, stamps = resampled(table, stamps, step, (*chosen, *known, *static), time or "time")
    if len(table) < 2:
        raise ValueError(f"{table.label} has one row: a series has at least 2.")
    values = np.stack([table.numbers(name) for name in chosen])
    for name, row in zip(chosen, values, strict=True):
        if np.isnan(row).all():
            raise ValueError(f"column {name!r} of {table.label} is all missing: there is nothing to learn from.")
    beside_rows = [_complete(table, name) for name in known]
    ahead = 0
    if horizon:
        past = int(np.flatnonzero(~np.isnan(values).all(0))[-1]) + 1
        ahead = len(table) - past if known else 0
        if known and ahead < horizon:
            raise ValueError(
                f"{table.label} goes on for {ahead} rows after the last target, and known columns are needed for "
                f"{horizon}: append rows with {', '.join(known)} and empty targets."
            )
        if horizon > past:
            raise ValueError(f"a horizon of {horizon} is longer than the {past} rows of {table.label} it is learned from.")
        if known:
            values, stamps = values[:, : past + horizon], stamps.cut(past + horizon)
            beside_rows = [row[: past + horizon] for row in beside_rows]
            ahead = horizon
    whole = stamps if known or not horizon else stamps.extended(horizon)
    empty = np.full((len(chosen), len(whole) - values.shape[1]), np.nan)
    calendar = whole.calendar()
    rows = [*([_standard(row) for row in beside_rows]), *calendar]
    series = Series(
        torch.from_numpy(np.concatenate([values, empty], 1)),
        torch.from_numpy(np.array(rows) if rows else np.zeros((0, len(whole)))),
        torch.from_numpy(np.ascontiguousarray(whole.index, np.float64)),
        torch.tensor([_same(table, name) for name in static], dtype=torch.float64),
    )
    return Chosen(table, chosen, whole, series, horizon)


def resampled(table: Table, stamps: Stamps, step: str, names: Sequence[str], time: str) -> tuple[Columns, Stamps]:
    """The table on an even grid: each step holds the mean of its rows' numbers, NaN where it has none.

    Raises:
        ValueError: if the stamps are plain numbers, or the grid would have over ten million rows.
    """
    if not stamps.style:
        raise ValueError(f"{table.label} has no dates to resample: its times are numbers.")
    grid, place = stamps.grid(*duration(step))
    if len(grid) > 10_000_000:
        raise ValueError(f"a step of {step} makes {len(grid)} rows of {len(table)}: take a longer one.")
    made: dict[str, np.ndarray] = {time: np.array(grid.words())}
    for name in names:
        values = table.numbers(name)
        kept = ~np.isnan(values)
        count = np.bincount(place[kept], minlength=len(grid))
        total = np.bincount(place[kept], values[kept], minlength=len(grid))
        made[name] = np.divide(total, count, out=np.full(len(grid), np.nan), where=count > 0)
    return Columns(made, f"{table.label} by {step}"), grid


@dataclass(frozen=True, eq=False)
class Standard:
    """The scale of one series: x = level + slope . covariates + scale z, channel by channel.

    Attributes:
        slope: (C, 1 + F), of 1 and the covariates, by ridge regression; `scale` (C,).
        constant: (C,), channels that never change: scale 0, and z is 0.
    """

    slope: Tensor
    scale: Tensor
    constant: Tensor

    @classmethod
    def fit(cls, series: Series, ridge: float = 1.0) -> Standard:
        """Of the numbers that are known."""
        C, F = series.values.shape[0], series.covariates.shape[0]
        known = ~series.values.isnan()
        design = torch.cat([torch.ones(1, len(series), dtype=torch.float64), series.covariates])
        slope, scale = torch.zeros(C, 1 + F, dtype=torch.float64), torch.ones(C, dtype=torch.float64)
        constant = torch.zeros(C, dtype=torch.bool)
        for c in range(C):
            x, rows = series.values[c][known[c]], design[:, known[c]]
            if not len(x) or bool((x == x[0]).all()):
                slope[c, 0], scale[c], constant[c] = (x[0] if len(x) else 0.0), 0.0, True
                continue
            centre, unit = x.mean(), x.std()
            penalty = ridge * torch.eye(1 + F, dtype=torch.float64)
            penalty[0, 0] = 1e-9
            slope[c] = torch.linalg.solve(rows @ rows.T + penalty, rows @ ((x - centre) / unit)) * unit
            slope[c, 0] += centre
            rest = x - slope[c] @ rows
            scale[c] = rest.square().mean().sqrt().clamp(min=1e-9 * float(x.abs().max()))
        return cls(slope, scale, constant)

    def encode(self, series: Series) -> Series:
        """z in the place of the values."""
        unit = torch.where(self.constant, 1.0, self.scale)
        return replace(series, values=(series.values - self._level(series.covariates)) / unit[:, None])

    def decode(self, z: Tensor, covariates: Tensor) -> Tensor:
        """x of z (..., C, L)."""
        return self._level(covariates) + self.scale[:, None] * z

    def _level(self, covariates: Tensor) -> Tensor:
        return self.slope[:, :1] + self.slope[:, 1:] @ covariates


class Windows:
    """Windows of `length` rows of series that are on one scale, from every start; for `training.fit`.

    Args:
        series: standardized.
        length: L; a series that is shorter has none.
        least: numbers that a window must hold.

    Raises:
        ValueError: if no series has such a window.
    """

    def __init__(self, series: Sequence[Series], length: int, least: int = 2) -> None:
        self.series, self.length = tuple(series), length
        self.starts: list[tuple[int, int]] = []
        for i, one in enumerate(self.series):
            held = torch.cat([torch.zeros(1), (~one.values.isnan()).double().sum(0).cumsum(0)])
            enough = (held[length:] - held[: len(held) - length] >= least).nonzero()[:, 0] if len(one) >= length else ()
            self.starts += [(i, int(start)) for start in enough]
        if not self.starts:
            raise ValueError(f"no series has {length} rows with {least} numbers among them: take shorter windows.")

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x0, cond) of these windows, float32: x0 (B, C, L), 0 where missing, and "valid"; nothing is drawn."""
        return stacked([self.series[i].cut(s, s + self.length) for i, s in (self.starts[item] for item in items)])


def stacked(windows: Sequence[Series]) -> tuple[Tensor, dict[str, Tensor]]:
    """(x0, cond) of windows of one length, float32: missing numbers are 0 and 0 in "valid"."""
    values = torch.stack([window.values for window in windows])
    cond = {
        "valid": (~values.isnan()).float(),
        "time": torch.stack([window.time - window.time[0] for window in windows]).float(),
    }
    if len(windows[0].covariates):
        cond["covariates"] = torch.stack([window.covariates for window in windows]).float()
    if len(windows[0].static):
        cond["static"] = torch.stack([window.static for window in windows]).float()
    return values.nan_to_num(0.0).float(), cond


def _complete(table: Table, name: str) -> np.ndarray:
    values = table.numbers(name)
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        raise ValueError(f"the known column {name!r} of {table.label} is missing in {table.row(int(missing[0]))}.")
    return values


def _same(table: Table, name: str) -> float:
    values = _complete(table, name)
    if not (values == values[0]).all():
        row = int(np.flatnonzero(values != values[0])[0])
        raise ValueError(f"the static column {name!r} of {table.label} changes in {table.row(row)}: is it a known one?")
    return float(values[0])


def _standard(values: np.ndarray) -> np.ndarray:
    std = values.std()
    return (values - values.mean()) / (std if std > 0 else 1.0)
