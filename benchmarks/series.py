"""Forecasting and imputing five real sets of series, against what a user would otherwise pick.

    pip install 'sfumato[baselines]' statsmodels
    python benchmarks/series.py --root ROOT --out benchmarks/data/series

ROOT holds the packages that `sfumato.data.series_sets` names. Every set is forecast, and imputed with 10, 50 and 90 %
of the points hidden, with one gap of a quarter of the window in each channel, and with one whole channel hidden. Each
method sees the same windows, none of whose hidden numbers it has seen. `sfumato` is the closed form of
`sf.forecast` and `sf.impute` (`minutes=0`), all its choices made on the training rows by `sfumato.zoo.backtest`; for an
imputation it is told which patterns of gaps are asked about. Writes OUT/SET.json: CRPS (19 quantile levels, over the
sum of |y|), CRPS_sum, MAE of the median, coverage of the central 50 % and 90 %, seconds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import baselines, metrics
from sfumato.data import series_sets
from sfumato.data.series import Series
from sfumato.noise import Seeds
from sfumato.zoo.series_model import SeriesModel, learn

SAMPLES = 100
Ask = tuple[int, int, Tensor]  # a test series, the row after the last, what is hidden up to there (C, rows)
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Problem:
    """One set: what is learned from, what is asked."""

    train: list[Series]
    test: list[Series]
    horizon: int
    season: int
    length: int  # of the windows that are imputed
    first: int = 0  # row of the test series where unseen rows begin
    windows: int = 16


def problems(root: Path) -> dict[str, Callable[[], Problem]]:
    """The five sets."""

    def tail(one: Series, share: float, horizon: int, season: int, length: int) -> Problem:
        cut = round((1 - share) * len(one))
        return Problem([one.cut(0, cut)], [one], horizon, season, length, cut)

    def winds() -> Problem:
        cells = series_sets.winds(root, 31)  # 340 cells
        return Problem([one.cut(0, 96) for one in cells], cells[::28], 12, 12, 36, 96)

    def motions() -> Problem:
        return Problem(series_sets.motions(root), series_sets.motions(root, train=False)[::3], 20, 1, 100)

    return {
        "demand": lambda: tail(series_sets.demand(root), 1 / 6, 48, 336, 96),
        "temperatures": lambda: tail(series_sets.temperatures(root), 1 / 6, 48, 24, 96),
        "winds": winds,
        "co2": lambda: tail(series_sets.co2(root), 1 / 5, 26, 52, 104),
        "motions": motions,
    }


def forecast_windows(problem: Problem) -> list[Ask]:
    """(test series, end row, hidden (C, end)): the last `horizon` rows are hidden."""
    found = []
    per = max(1, problem.windows // len(problem.test))
    for i, one in enumerate(problem.test):
        low, high = max(problem.first + problem.horizon, 2 * problem.horizon), len(one)
        low = high if not problem.first else low
        for end in sorted({int(e) for e in np.linspace(low, high, per)}):
            hidden = torch.zeros(len(one.values), end, dtype=torch.bool)
            hidden[:, end - problem.horizon :] = True
            found.append((i, end, hidden))
    return found


def gap_windows(problem: Problem, way: str) -> list[Ask]:
    """(test series, end row, hidden): only in the last `length` rows, and only numbers that are known."""
    found = []
    per = max(1, problem.windows // len(problem.test))
    for i, one in enumerate(problem.test):
        C, low, high = len(one.values), max(problem.first, 0) + problem.length, len(one)
        low = min(low, high)
        for end in sorted({int(e) for e in np.linspace(low, high, per)}):
            noise = Seeds.keyed(0, [(way, i, end)]).streams[0]
            part = torch.zeros(C, problem.length, dtype=torch.bool)
            if way.startswith("points"):
                part = noise.uniform(torch.empty(C, problem.length)) < int(way.split()[1]) / 100
            elif way == "blocks":
                size = problem.length // 4
                for row in part:
                    at = int(noise.uniform(torch.empty(1)) * (problem.length - size))
                    row[at : at + size] = True
            else:
                part[int(noise.uniform(torch.empty(1)) * C)] = True
            hidden = torch.zeros(C, end, dtype=torch.bool)
            hidden[:, end - problem.length :] = part
            found.append((i, end, hidden & ~one.values[:, :end].isnan()))
    return [window for window in found if bool(window[2].any())]


def ours(model: SeriesModel) -> Callable[[Series, Tensor, Problem], Tensor]:
    """Samples (S, C, rows of the model's window) of the last rows, in the unit of the data."""

    def run(one: Series, hidden: Tensor, problem: Problem) -> Tensor:
        known = replace(one, values=torch.where(hidden, torch.nan, one.values))
        return model.predict(known, SAMPLES, item=len(one))

    return run


def point(fill: Callable[[Tensor], Tensor]) -> Callable[[Series, Tensor, Problem], Tensor]:
    return lambda one, hidden, problem: fill(torch.where(hidden, torch.nan, one.values))[None]


def naive(one: Series, hidden: Tensor, problem: Problem) -> Tensor:
    past = one.values[:, : -problem.horizon]
    noise = Seeds.keyed(0, ["naive"]).streams[0]
    return baselines.seasonal_naive(past, problem.horizon, min(problem.season, past.shape[1] // 2), SAMPLES, noise)


def state_space(kind: str) -> Callable[[Series, Tensor, Problem], Tensor]:
    """ETS, ARIMA with a season's waves, or a local level, by statsmodels; channel by channel, Gaussian draws."""

    def run(one: Series, hidden: Tensor, problem: Problem) -> Tensor:
        import pandas
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel
        from statsmodels.tsa.statespace.sarimax import SARIMAX
        from statsmodels.tsa.statespace.structural import UnobservedComponents

        values = torch.where(hidden, torch.nan, one.values).numpy()
        keep = min(values.shape[1], 6 * min(problem.season, 96) + problem.length + problem.horizon)
        values, H = values[:, -keep:], problem.horizon
        eps = Seeds.keyed(0, ["state"]).streams[0].normal(torch.empty(SAMPLES, *values.shape)).double().numpy()
        out = []
        for c, row in enumerate(values):
            season, place = min(problem.season, 48), np.arange(len(row))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if kind == "level" and np.isnan(row).all():  # of what nothing is known, the law of the training rows
                    rows = torch.cat([train.values[c] for train in problem.train])
                    rows = rows[~rows.isnan()]
                    out.append(float(rows.mean()) + float(rows.std()) * eps[:, c])
                    continue
                if kind == "level":
                    fitted = UnobservedComponents(row, "llevel").fit(disp=0)
                    noise = fitted.params[0]
                    mean, var = fitted.smoothed_state[0], fitted.smoothed_state_cov[0, 0] + noise
                    out.append(mean + np.sqrt(np.maximum(var, 0)) * eps[:, c])
                    continue
                past = np.interp(place[:-H], place[:-H][~np.isnan(row[:-H])], row[:-H][~np.isnan(row[:-H])])
                if kind == "ets":
                    seasonal = {"seasonal": "add", "seasonal_periods": season} if season > 1 else {}
                    plain = {"error": "add", "initialization_method": "heuristic", **seasonal}
                    ways = ({"trend": None}, {"trend": "add", "damped_trend": True})
                    made = [ETSModel(pandas.Series(past), **plain, **way).fit(disp=0) for way in ways]
                    fitted = min(made, key=lambda one: one.aic)
                    table = fitted.get_prediction(len(past), len(past) + H - 1).summary_frame(alpha=0.3173105)
                    mean, std = table["mean"].to_numpy(), (table["pi_upper"] - table["mean"]).to_numpy()
                else:
                    cycles = {problem.season: 3, season: 6 if season < problem.season else 3}
                    waves = [
                        f(2 * np.pi * k * place / cycle)
                        for cycle, most in cycles.items()
                        for k in range(1, most + 1)
                        for f in (np.sin, np.cos)
                    ]
                    exog = np.array(waves).T if problem.season > 1 else None
                    fitted = SARIMAX(past, exog[:-H] if exog is not None else None, order=(2, 1, 1)).fit(disp=0)
                    ahead = fitted.get_forecast(H, exog=exog[-H:] if exog is not None else None)
                    mean, std = ahead.predicted_mean, ahead.se_mean
                out.append(mean + std * eps[:, c, -H:])
        return torch.from_numpy(np.stack(out, 1))

    return run


FORECASTS: dict[str, Any] = {
    "seasonal naive": naive,
    "ETS": state_space("ets"),
    "ARIMA(2,1,1) with waves": state_space("arima"),
}
FILLINGS: dict[str, Any] = {
    "linear interpolation": point(baselines.interpolate),
    "spline": point(lambda x: baselines.interpolate(x, spline=True)),
    "local level, Kalman smoother": state_space("level"),
}


def score(drawn: list[Tensor], truth: list[Tensor], hidden: list[Tensor], seconds: float) -> dict[str, float]:
    """The figures of one method on one task: each window's last rows, as many as all methods have."""
    rows = min(min(d.shape[-1], h.shape[-1]) for d, h in zip(drawn, hidden, strict=True))
    rows = max(rows, max(int(h.any(0).nonzero().flipud()[0]) - int(h.any(0).nonzero()[0]) + 1 for h in hidden))
    x = torch.stack([d[..., -rows:] for d in drawn], 1).double()
    y = torch.stack([t[..., -rows:] for t in truth]).double()
    mask = torch.stack([h[..., -rows:] for h in hidden]) & ~y.isnan()
    y = torch.where(mask, y, 0.0)
    x = torch.where(mask, x, 0.0)
    found = {
        "crps": float(metrics.quantile_crps(x, y, mask)),
        "crps_sum": float(metrics.crps_sum(x, y, mask)),
        "mae": float((metrics.quantiles(x, (0.5,))[0] - y).abs()[mask].mean()),
    }
    if len(x) > 1:
        for level in (0.5, 0.9):
            low, high = metrics.central_interval(x, level)
            found[f"cover{level:.0%}".replace("%", "")] = float(((low <= y) & (y <= high))[mask].double().mean())
    return {**{name: round(value, 5) for name, value in found.items()}, "seconds": round(seconds, 2)}


def evaluate(windows: list[Ask], problem: Problem, methods: dict[str, Any], span: int) -> Scores:
    """Every method on the same windows; `span` rows at their end are scored."""
    found = {}
    truth = [problem.test[i].values[:, end - span : end] for i, end, _ in windows]
    hidden = [h[:, -span:] for _, _, h in windows]
    for name, method in methods.items():
        began = time.perf_counter()
        drawn = [method(problem.test[i].cut(0, end), h, problem)[..., -span:] for i, end, h in windows]
        found[name] = score(drawn, truth, hidden, time.perf_counter() - began)
        print(f"  {name:32} {found[name]}", flush=True)
    return found


def tasks(problem: Problem) -> dict[str, list[Ask]]:
    """What is asked."""
    ways = ["points 10", "points 50", "points 90", "blocks"]
    ways += ["channel"] if len(problem.test[0].values) > 1 else []
    return {"forecast": forecast_windows(problem), **{way: gap_windows(problem, way) for way in ways}}


def law(task: str, problem: Problem, windows: list[Ask]) -> SeriesModel:
    """The closed form for one task, from the training rows and the patterns of what is asked."""
    if task == "forecast":
        return learn(problem.train, horizon=problem.horizon, steps=0)
    patterns = torch.stack([~hidden[:, -problem.length :] for _, _, hidden in windows])
    return learn(problem.train, patterns=patterns, steps=0)


def run(name: str, problem: Problem, done: dict[str, Any]) -> None:
    """The rows of the closed form and of what else one would pick, into `done`."""
    done["tasks"], done["chosen"] = {}, {}
    for task, windows in tasks(problem).items():
        began = time.perf_counter()
        model = law(task, problem, windows)
        about = {k: float(f"{v:.4g}") for k, v in model.held_out.items()}
        done["chosen"][task] = {"window": model.length, **about, "seconds": round(time.perf_counter() - began, 1)}
        print(name, task, done["chosen"][task], flush=True)
        others = FORECASTS if task == "forecast" else FILLINGS
        span = problem.horizon if task == "forecast" else problem.length
        done["tasks"][task] = evaluate(windows, problem, {"sfumato": ours(model), **others}, span)


def main() -> None:
    """Parses the command line, runs, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--only", nargs="*", help="names of sets; all by default")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, make in problems(args.root).items():
        if args.only and name not in args.only:
            continue
        problem, path = make(), args.out / f"{name}.json"
        done = {"set": name, "samples": SAMPLES, "horizon": problem.horizon, "length": problem.length}
        run(name, problem, done)
        path.write_text(json.dumps(done, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
