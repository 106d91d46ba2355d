"""Forecasting and imputing a table: clean, scale, cut, learn, sample, put back on the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfumato.data.series import Chosen, Series, choose
from sfumato.data.tables import as_table
from sfumato.zoo.forecast import Forecast
from sfumato.zoo.series_model import Progress, SeriesModel, learn, suggested

WIDEST = 12  # channels modelled together; more are modelled one by one, by one model


def forecast(
    table: Any,
    horizon: int,
    *,
    samples: int = 200,
    minutes: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **columns: Any,
) -> Forecast:
    """The next rows of a table, as samples of how they may go on.

    Args:
        table: a path (CSV, Parquet), a DataFrame, a mapping of name to values, or an array (rows, channels).
        horizon: how many rows.
        samples: how many.
        minutes: how long a network may train on top of the closed-form law; 0 for the law alone.
        steps: of training, in the place of `minutes`: the same forecast every time.
        progress: called with the steps of training done and in all.
        columns: which column is what, of `data.series.choose`: time, targets, known, static, zone, style, step, season.

    Raises:
        ValueError: for a table that cannot be modelled, with what is wrong and where.
    """
    if horizon < 1:
        raise ValueError(f"a horizon is at least 1 row, got {horizon}.")
    chosen = choose(as_table(table), horizon=horizon, **columns)
    return predict(chosen, samples=samples, minutes=minutes, steps=steps, seed=seed, progress=progress)


def impute(table: Any, *, samples: int = 100, minutes: float = 1.0, **options: Any) -> Forecast:
    """The table's missing numbers, as samples of what they may have been; `.filled()` is the table with the median.

    Arguments as in `forecast`.
    """
    plan = {name: options.pop(name) for name in ("steps", "seed", "progress") if name in options}
    chosen = choose(as_table(table), **options)
    return predict(chosen, samples=samples, minutes=minutes, **{"steps": None, "seed": 0, **plan})


def predict(
    chosen: Chosen, *, samples: int, minutes: float, steps: int | None, seed: int, progress: Progress | None = None
) -> Forecast:
    """A forecast, or an imputation where no rows are ahead, of the series chosen from a table."""
    if samples < 1:
        raise ValueError(f"at least 1 sample is drawn, got {samples}.")
    ahead, whole = chosen.ahead, chosen.series
    past = whole.cut(0, len(whole) - ahead)
    hidden = whole.values.isnan()
    level = past.values.nanmean(1, keepdim=True)
    live = ((past.values != level) & ~past.values.isnan()).any(1)
    x = torch.where(hidden, level, whole.values).expand(samples, -1, -1).clone()
    about: dict[str, Any] = {}
    if bool(hidden[live].any()):
        parts = _apart(whole, live)
        learned = [one.cut(0, len(past)) for one in parts]
        patterns = None if ahead else _patterns(parts)
        plan: dict[str, Any] = {"minutes": minutes, "steps": steps, "seed": seed, "progress": progress}
        model = learn(learned, horizon=ahead, patterns=patterns, **plan)
        fill = _ahead if ahead else _through
        x[:, live] = torch.cat([fill(model, one, samples, seed, i) for i, one in enumerate(parts)], 1)
        about = {"window": model.length, "steps": model.steps, "held_out": model.held_out}
    x = x.transpose(1, 2)
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
    last = model.predict(series, samples, seed=seed, item=item)
    return torch.cat([series.values[:, : len(series) - last.shape[2]].expand(samples, -1, -1), last], -1)


def _through(model: SeriesModel, series: Series, samples: int, seed: int, item: int) -> Tensor:
    """The samples of a series with gaps: windows that overlap by half, each number from the one it is deepest in."""
    rows, missing = len(series), series.values.isnan()
    length = min(model.length, rows)
    encoded, standard = model.scales.encode(series)
    starts = _starts(rows, length)
    place = torch.arange(rows)
    inside = torch.stack([torch.minimum(place - start, start + length - 1 - place) for start in starts])
    owner = inside.argmax(0)
    z = encoded.values.expand(samples, -1, -1).clone()
    needed = [w for w in range(len(starts)) if bool(missing[:, owner == w].any())]
    for first in range(0, len(needed), 32):
        chunk = needed[first : first + 32]
        windows = [encoded.cut(starts[w], starts[w] + length) for w in chunk]
        drawn = model.sample(windows, samples, seed=seed, items=[(item, w) for w in chunk])
        for k, w in enumerate(chunk):
            mine = (owner == w).nonzero()[:, 0]
            z[:, :, mine] = drawn[:, k][:, :, mine - starts[w]]
    return torch.where(missing, standard.decode(z, encoded), series.values)


def _patterns(parts: Sequence[Series]) -> Tensor:
    """What is given of the windows that lack something, (P, C, L), at most 64 of them."""
    length = suggested(parts, 0)[0]
    found = [
        ~one.values[:, start : start + length].isnan() for one in parts for start in _starts(len(one), length)
    ]
    gappy = [given for given in found if not bool(given.all())]
    return torch.stack(gappy[:: max(1, len(gappy) // 64)])


def _starts(rows: int, length: int) -> list[int]:
    """First rows of windows that overlap by half."""
    return sorted({*range(0, rows - length + 1, max(1, length // 2)), rows - length})
