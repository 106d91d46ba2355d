"""Forecasting and imputing a table: clean, scale, cut, learn, sample, put back on the scale."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfumato.data.series import Chosen, Series, choose
from sfumato.data.tables import as_table, split_by
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


def panel(table: Any, id: str, *, horizon: int = 0, samples: int = 100, **options: Any) -> dict[str, Forecast]:
    """Many series in one long table, by the value of their `id` column: forecasts, or imputations without a horizon.

    One model learns from all of them; static columns tell them apart. Other arguments as in `forecast`.

    Raises:
        ValueError: as `forecast` does, with the series that it is about.
    """
    plan: dict[str, Any] = {"minutes": 1.0, "steps": None, "seed": 0, "progress": None}
    plan |= {name: options.pop(name) for name in plan if name in options}
    parts = split_by(as_table(table), id)
    chosen = [choose(part, horizon=horizon, **options) for part, _ in parts.values()]
    return dict(zip(parts, predict_all(chosen, samples=samples, **plan), strict=True))


def predict(
    chosen: Chosen, *, samples: int, minutes: float, steps: int | None, seed: int, progress: Progress | None = None
) -> Forecast:
    """A forecast, or an imputation where no rows are ahead, of the series chosen from a table."""
    plan: dict[str, Any] = {"minutes": minutes, "steps": steps, "seed": seed, "progress": progress}
    return predict_all([chosen], samples=samples, **plan)[0]


def predict_all(
    chosen: Sequence[Chosen],
    *,
    samples: int,
    minutes: float,
    steps: int | None,
    seed: int,
    progress: Progress | None = None,
) -> list[Forecast]:
    """One for each, by one model of them all.

    Raises:
        ValueError: for no sample, or series of other targets than the first.
    """
    if samples < 1:
        raise ValueError(f"at least 1 sample is drawn, got {samples}.")
    for one in chosen:
        if one.targets != chosen[0].targets:
            raise ValueError(f"{one.table.label} has {', '.join(one.targets)}, not {', '.join(chosen[0].targets)}.")
    ahead, wholes = chosen[0].ahead, _leveled([one.series for one in chosen])
    pasts = [one.cut(0, len(one) - ahead) for one in wholes]
    known = [past.values.isnan().logical_not() for past in pasts]
    most = [torch.where(k, p.values, -torch.inf).amax(1) for p, k in zip(pasts, known, strict=True)]
    least = [torch.where(k, p.values, torch.inf).amin(1) for p, k in zip(pasts, known, strict=True)]
    live = torch.stack([high > low for high, low in zip(most, least, strict=True)]).any(0)
    drawn = [
        torch.where(one.values.isnan(), high[:, None], one.values).expand(samples, -1, -1).clone()
        for one, high in zip(wholes, most, strict=True)
    ]
    about: dict[str, Any] = {}
    if any(bool(one.values[live].isnan().any()) for one in wholes):
        parts = [_apart(one, live) for one in wholes]
        every = [part for some in parts for part in some]
        plan: dict[str, Any] = {"minutes": minutes, "steps": steps, "seed": seed, "progress": progress}
        patterns = None if ahead else _patterns(every)
        model = learn([one.cut(0, len(one) - ahead) for one in every], horizon=ahead, patterns=patterns, **plan)
        fill, item = _ahead if ahead else _through, itertools.count()
        for x, some in zip(drawn, parts, strict=True):
            if any(bool(one.values.isnan().any()) for one in some):
                x[:, live] = torch.cat([fill(model, one, samples, seed, next(item)) for one in some], 1)
        about = {"window": model.length, "steps": model.steps, "held_out": model.held_out}
    return [record(one, x.transpose(1, 2), about) for one, x in zip(chosen, drawn, strict=True)]


def record(chosen: Chosen, x: Tensor, about: dict[str, Any]) -> Forecast:
    """The samples (S, L, C) of all rows, as what is said of the rows asked about."""
    ahead, values = chosen.ahead, chosen.series.values.T
    rows = len(values)
    past = rows - ahead if ahead else 0
    return Forecast(
        x[:, past:],
        chosen.targets,
        chosen.stamps.part(past, rows),
        ~values[past:].isnan(),
        values[:past],
        chosen.stamps.part(0, past),
        None if ahead else chosen.table,
        about,
    )


def _leveled(series: Sequence[Series]) -> list[Series]:
    """The series with their statics of mean 0 and spread 1 over all."""
    static = torch.stack([one.static for one in series])
    if not static.numel():
        return list(series)
    spread = static.std(0, correction=0)
    unit = (static - static.mean(0)) / torch.where(spread > 0.0, spread, 1.0)
    return [replace(one, static=row) for one, row in zip(series, unit, strict=True)]


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
    """The samples of a series with gaps. (S, C, L)."""
    encoded, standard = model.scales.encode(series)

    def window(start: int, stop: int) -> Tensor:
        return model.sample([encoded.cut(start, stop)], samples, seed=seed, items=[(item, start)])[:, 0]

    z = through(encoded.values, min(model.length, len(series)), samples, window)
    return torch.where(series.values.isnan(), standard.decode(z, encoded), series.values)


def through(values: Tensor, length: int, samples: int, window: Callable[[int, int], Tensor]) -> Tensor:
    """Samples of (C, L) by windows that overlap by half, (S, C, L): each number from the one it is deepest in.

    Args:
        window: first row and the one after the last to the samples (S, C, length); called where something is missing.
    """
    starts, place, missing = _starts(values.shape[1], length), torch.arange(values.shape[1]), values.isnan()
    inside = torch.stack([torch.minimum(place - start, start + length - 1 - place) for start in starts])
    owner, x = inside.argmax(0), values.expand(samples, -1, -1).clone()
    for w, start in enumerate(starts):
        mine = (owner == w).nonzero()[:, 0]
        if bool(missing[:, mine].any()):
            x[:, :, mine] = window(start, start + length)[:, :, mine - start]
    return x


def _patterns(parts: Sequence[Series]) -> Tensor:
    """What is given of the windows that lack something, (P, C, L), at most 64 of them."""
    length = suggested(parts, 0)[0]
    found = [~one.values[:, start : start + length].isnan() for one in parts for start in _starts(len(one), length)]
    gappy = [given for given in found if not bool(given.all())]
    return torch.stack(gappy[:: max(1, len(gappy) // 64)])


def _starts(rows: int, length: int) -> list[int]:
    """First rows of windows that overlap by half."""
    return sorted({*range(0, rows - length + 1, max(1, length // 2)), rows - length})
