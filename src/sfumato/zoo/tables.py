"""Forecasting and imputing a table: clean, scale, cut, learn, sample, put back on the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfumato.data.series import Chosen, Series, Standard, best_ridge, choose
from sfumato.data.tables import as_table
from sfumato.zoo.forecast import Forecast
from sfumato.zoo.series_model import Progress, SeriesModel, learn

WIDEST = 12  # channels modelled together; more are modelled one by one, by one model


def forecast(
    table: Any,
    horizon: int,
    *,
    time: str = "",
    targets: Sequence[str] = (),
    known: Sequence[str] = (),
    static: Sequence[str] = (),
    zone: str = "",
    style: str = "",
    step: str = "",
    season: int = 0,
    samples: int = 200,
    minutes: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Forecast:
    """The next rows of a table, as samples of how they may go on.

    Args:
        table: a path (CSV, Parquet), a DataFrame, a mapping of name to values, or an array (rows, channels).
        horizon: how many rows.
        time, targets, known, static, zone, style, step, season: which columns are what (`data.series.choose`).
        samples: how many.
        minutes: how long a network may train on top of the closed-form law; 0 for the law alone.
        steps: of training, in the place of `minutes`: the same forecast every time.
        progress: called with the steps of training done and in all.

    Raises:
        ValueError: for a table that cannot be modelled, with what is wrong and where.
    """
    if horizon < 1:
        raise ValueError(f"a horizon is at least 1 row, got {horizon}.")
    columns = {"time": time, "targets": targets, "known": known, "static": static}
    chosen = choose(
        as_table(table), **columns, zone=zone, style=style, step=step, season=season, horizon=horizon
    )  # type: ignore[arg-type]
    return predict(chosen, samples=samples, minutes=minutes, steps=steps, seed=seed, progress=progress)


def impute(
    table: Any,
    *,
    time: str = "",
    targets: Sequence[str] = (),
    known: Sequence[str] = (),
    static: Sequence[str] = (),
    zone: str = "",
    style: str = "",
    step: str = "",
    season: int = 0,
    samples: int = 100,
    minutes: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Forecast:
    """The table's missing numbers, as samples of what they may have been; `.filled()` is the table with the median.

    Arguments as in `forecast`.
    """
    columns = {"time": time, "targets": targets, "known": known, "static": static}
    chosen = choose(as_table(table), **columns, zone=zone, style=style, step=step, season=season)  # type: ignore[arg-type]
    return predict(chosen, samples=samples, minutes=minutes, steps=steps, seed=seed, progress=progress)


def predict(
    chosen: Chosen, *, samples: int, minutes: float, steps: int | None, seed: int, progress: Progress | None = None
) -> Forecast:
    """A forecast, or an imputation where no rows are ahead, of the series chosen from a table."""
    if samples < 1:
        raise ValueError(f"at least 1 sample is drawn, got {samples}.")
    whole, ahead = chosen.series, chosen.ahead
    past = whole.cut(0, len(whole) - ahead)
    hidden = whole.values.isnan()
    standard = Standard.fit(past, best_ridge([past]) if len(past) >= 10 else 3.0)
    live = ~standard.constant
    z = torch.zeros(samples, *whole.values.shape, dtype=torch.float64)
    about: dict[str, Any] = {}
    if bool(hidden[live].any()):
        parts = _apart(standard.encode(whole), live)
        model = learn(
            [one.cut(0, len(past)) for one in parts],
            horizon=ahead,
            minutes=minutes,
            steps=steps,
            seed=seed,
            progress=progress,
        )
        fill = _ahead if ahead else _through
        z[:, live] = torch.cat([fill(model, one, samples, seed, i) for i, one in enumerate(parts)], 1)
        about = {"window": model.length, "steps": model.steps, "held_out": model.held_out}
    x = torch.where(hidden, standard.decode(z, whole), whole.values).transpose(1, 2)
    kept = slice(len(past), None) if ahead else slice(None)
    before = past.values.T if ahead else past.values.T[:0]
    return Forecast(
        x[:, kept],
        chosen.targets,
        chosen.stamps.part(len(past) if ahead else 0, len(whole)),
        ~hidden.T[kept],
        before,
        chosen.stamps.part(0, len(before)),
        None if ahead else chosen.table,
        about,
    )


def _apart(series: Series, live: Tensor) -> list[Series]:
    """The channels that change, as one series, or one by one where they are many."""
    kept = replace(series, values=series.values[live])
    count = len(kept.values)
    return [kept] if count <= WIDEST else [replace(kept, values=kept.values[c : c + 1]) for c in range(count)]


def _ahead(model: SeriesModel, series: Series, samples: int, seed: int, item: int) -> Tensor:
    """The samples of a series whose last rows are missing: of the last window. (S, C, L)."""
    start = max(0, len(series) - model.length)
    last = model.sample([series.cut(start, len(series))], samples, seed=seed, items=[item])[:, 0]
    return torch.cat([series.values[:, :start].expand(samples, -1, -1), last], -1)


def _through(model: SeriesModel, series: Series, samples: int, seed: int, item: int) -> Tensor:
    """The samples of a series with gaps: windows that overlap by half, each number from the one it is most inside of."""
    length, rows = min(model.length, len(series)), len(series)
    starts = sorted({*range(0, rows - length + 1, max(1, length // 2)), rows - length})
    place = torch.arange(rows)
    inside = torch.stack([torch.minimum(place - start, start + length - 1 - place) for start in starts])
    owner = inside.argmax(0)
    missing = series.values.isnan()
    z = series.values.expand(samples, -1, -1).clone()
    needed = [w for w in range(len(starts)) if bool(missing[:, owner == w].any())]
    for first in range(0, len(needed), 32):
        chunk = needed[first : first + 32]
        windows = [series.cut(starts[w], starts[w] + length) for w in chunk]
        drawn = model.sample(windows, samples, seed=seed, items=[(item, w) for w in chunk])
        for k, w in enumerate(chunk):
            mine = (owner == w).nonzero()[:, 0]
            z[:, :, mine] = drawn[:, k][:, :, mine - starts[w]]
    return z
