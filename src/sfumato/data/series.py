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

HARMONICS = 12  # of a day and of a year; a week has 7 times as many


@dataclass(frozen=True, eq=False)
class Series:
    """Channels over one axis of time, and what is known beside them.

    Attributes:
        values: (C, L), float64, NaN where missing.
        covariates: (F, L), known at all times; (0, L) for none.
        cycles: (K, L), waves that the level is regressed on besides, and that a network is not shown.
        orders: (K,), how fine each cycle is: k for the k-th harmonic.
        time: (L,), in steps.
        static: (S,), numbers known once.
    """

    values: Tensor
    covariates: Tensor
    cycles: Tensor
    orders: Tensor
    time: Tensor
    static: Tensor

    @classmethod
    def of(
        cls,
        values: Tensor,
        covariates: Tensor | None = None,
        *,
        stamps: Stamps | None = None,
        season: int = 0,
        static: Tensor | None = None,
    ) -> Series:
        """Values (C, L) and what follows from their times: the calendar of the stamps, or a season of so many rows."""
        stamps = counted(values.shape[1]) if stamps is None else stamps
        given = torch.zeros(0, len(stamps), dtype=torch.float64) if covariates is None else covariates.double()
        near, far, orders = stamps.calendar(1), stamps.calendar(HARMONICS), stamps.orders(HARMONICS)
        if season > 1:
            near, far = waves(stamps.index, season, 1), waves(stamps.index, season, 7 * HARMONICS)
            orders = np.repeat(np.arange(1.0, len(far) // 2 + 1), 2)
        return cls(
            values.double(),
            torch.cat([given, torch.from_numpy(near)]),
            torch.from_numpy(far),
            torch.from_numpy(orders),
            torch.from_numpy(np.ascontiguousarray(stamps.index, np.float64)),
            torch.zeros(0, dtype=torch.float64) if static is None else static.double(),
        )

    def __len__(self) -> int:
        return self.values.shape[1]

    def cut(self, start: int, stop: int) -> Series:
        """Rows start .. stop - 1."""
        part = slice(start, stop)
        return replace(
            self,
            values=self.values[:, part],
            covariates=self.covariates[:, part],
            cycles=self.cycles[:, part],
            time=self.time[part],
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
    season: int = 0,
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
        season: rows in a season, where the stamps do not tell; the calendar's day, week and year otherwise.
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
            raise ValueError(
                f"a horizon of {horizon} is longer than the {past} rows of {table.label} it is learned from."
            )
        if known:
            values, stamps = values[:, : past + horizon], stamps.part(0, past + horizon)
            beside_rows = [row[: past + horizon] for row in beside_rows]
            ahead = horizon
    whole = stamps if known or not horizon else stamps.extended(horizon)
    empty = np.full((len(chosen), len(whole) - values.shape[1]), np.nan)
    series = Series.of(
        torch.from_numpy(np.concatenate([values, empty], 1)),
        torch.from_numpy(np.array([_standard(row) for row in beside_rows])) if known else None,
        stamps=whole,
        season=season,
        static=torch.tensor([_same(table, name) for name in static], dtype=torch.float64),
    )
    return Chosen(table, chosen, whole, series, horizon)


def resampled(table: Table, stamps: Stamps, step: str, names: Sequence[str], time: str) -> tuple[Columns, Stamps]:
    """The table on an even grid: each step holds the mean of its rows' numbers, NaN where it has none.

    Raises:
        ValueError: if the stamps are plain numbers, or the grid too fine.
    """
    if not stamps.style:
        raise ValueError(f"{table.label} has no dates to resample: its times are numbers.")
    grid, place = stamps.grid(*duration(step))
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
    """The scale of one series: x = level(covariates, cycles) + scale z, channel by channel.

    Attributes:
        slope: (C, 1 + F + K), of 1, the covariates and the cycles, by ridge regression.
        scale: (C,), root mean square of what that leaves over in rows to come, by generalized cross-validation.
        constant: (C,), channels that never change: their scale is 0, and z is 0.
    """

    slope: Tensor
    scale: Tensor
    constant: Tensor

    @classmethod
    def fit(cls, series: Series, ridge: float = 3.0) -> Standard:
        """Of the numbers that are known, by ridge regression.

        Args:
            ridge: what is added to the squares of each regressor, in numbers; of the k-th harmonic k^2 times that.
        """
        return cls.fits(series, (ridge,))[0]

    @classmethod
    def fits(cls, series: Series, ridges: Sequence[float]) -> list[Standard]:
        """`fit` with each of several ridges.

        Source for the scale: Golub et al. 1979 (10.1080/00401706.1979.10489751) eq. 1.3.
        """
        design = _design(series)
        C, n = len(series.values), len(design)
        shape = (len(ridges), C)
        slope, scale = torch.zeros(*shape, n, dtype=torch.float64), torch.zeros(*shape, dtype=torch.float64)
        constant = torch.zeros(C, dtype=torch.bool)
        # The 1 is free, covariates weigh as a first harmonic.
        weight = torch.cat([torch.zeros(1), torch.ones(len(series.covariates)), series.orders**2]).double()
        for c, row in enumerate(series.values):
            known = ~row.isnan()
            x, rows = row[known], design[:, known]
            if not len(x) or bool((x == x[0]).all()):
                slope[:, c, 0], constant[c] = (x[0] if len(x) else 0.0), True
                continue
            gram, moment = rows @ rows.T, rows @ (x - x.mean())
            for r, ridge in enumerate(ridges):
                root = torch.linalg.cholesky(gram + torch.diag(ridge * weight + 1e-9 * len(x)))
                slope[r, c] = torch.cholesky_solve(moment[:, None], root)[:, 0]
                slope[r, c, 0] += x.mean()
                rest = (x - slope[r, c] @ rows).square().mean().sqrt()
                used = float(torch.cholesky_solve(gram, root).trace()) / len(x)
                scale[r, c] = max(float(rest) / max(1.0 - used, 0.1), 1e-9 * float(x.std()))
        return [cls(a, b, constant) for a, b in zip(slope, scale, strict=True)]

    def encode(self, series: Series) -> Series:
        """The series with z in the place of its values."""
        unit = torch.where(self.constant, 1.0, self.scale)
        return replace(series, values=(series.values - self.slope @ _design(series)) / unit[:, None])

    def decode(self, z: Tensor, series: Series) -> Tensor:
        """x of z (..., C, L), at the times and covariates of a series."""
        return self.slope @ _design(series) + self.scale[:, None] * z


def risen(one: Series) -> Series:
    """The series with time itself among its cycles, of mean 0 and spread 1 over the rows where something is known."""
    past = one.time[~one.values.isnan().all(0)]
    spread = past.std() if len(past) > 1 else torch.tensor(0.0)
    row = (one.time - past.mean()) / (spread if spread > 0.0 else 1.0)
    return replace(one, cycles=torch.cat([one.cycles, row[None]]), orders=torch.cat([one.orders, torch.ones(1)]))


def joined(series: Sequence[Series]) -> Series:
    """The rows of all, one after another; statics of the first."""
    return replace(
        series[0],
        values=torch.cat([one.values for one in series], 1),
        covariates=torch.cat([one.covariates for one in series], 1),
        cycles=torch.cat([one.cycles for one in series], 1),
        time=torch.cat([one.time for one in series]),
    )


def waves(index: np.ndarray, season: int, most: int) -> np.ndarray:
    """Sines and cosines of a season of so many rows and of its harmonics, (F, rows)."""
    angle = 2 * np.pi * index / season
    return np.array([f(k * angle) for k in range(1, min(most, season // 2) + 1) for f in (np.sin, np.cos)])


def _design(series: Series) -> Tensor:
    return torch.cat([torch.ones(1, len(series), dtype=torch.float64), series.covariates, series.cycles])


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
