"""Forecasting and imputing five real sets of series, against what a user would otherwise pick.

    pip install 'sfumato[baselines]' statsmodels
    python benchmarks/series.py --root ROOT --only demand --minutes 3 --out benchmarks/data/series

ROOT holds the packages that `sfumato.data.series_sets` names. Every set is forecast, and imputed with 10, 50 and 90 %
of the points hidden, with one gap of a quarter of the window in each channel, and with one whole channel hidden. Each
method sees the same windows, none of which the models were trained on. Writes OUT/SET.json: CRPS (19 quantile levels,
over the sum of |y|), CRPS_sum, MAE of the median, coverage of the central 50 % and 90 %, seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import baselines, metrics
from sfumato.data import series_sets
from sfumato.data.series import Series, Standard, best_ridge
from sfumato.noise import Seeds
from sfumato.zoo.series_model import SeriesModel, learn

SAMPLES = 100
Window = tuple[Series, Series, Tensor]  # all that is known up to its end, the window in it, what is hidden (C, L)


@dataclass(frozen=True)
class Problem:
    """One set: what is learned from, what is asked."""

    train: list[Series]
    test: list[Series]
    horizon: int
    season: int
    length: int  # of the windows that are imputed
    first: int = 0  # row of the test series where unseen rows begin
    windows: int = 12


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


def standards(problem: Problem) -> tuple[list[Standard], list[Standard]]:
    """Scales of the training series, and of the test series by their rows that were trained on (motions: all rows'
    pooled scale, since no row of a test series was)."""
    ridge = best_ridge(problem.train)
    made = [Standard.fit(one, ridge) for one in problem.train]
    if problem.first:
        return made, [Standard.fit(one.cut(0, problem.first), ridge) for one in problem.test]
    pooled = torch.cat([one.values for one in problem.train], 1)
    flat = replace(Series.of(pooled), covariates=torch.zeros(0, pooled.shape[1], dtype=torch.float64))
    whole = Standard.fit(flat)
    return [whole] * len(problem.train), [whole] * len(problem.test)


def forecast_windows(problem: Problem) -> list[tuple[int, int, Tensor]]:
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


def gap_windows(problem: Problem, way: str) -> list[tuple[int, int, Tensor]]:
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


def ours(model: SeriesModel, problem: Problem, scales: Sequence[Standard]) -> Callable[[int, int, Tensor], Tensor]:
    """A method: samples (S, C, rows of the model's window) of the last rows, in the unit of the data."""

    def run(i: int, end: int, hidden: Tensor) -> Tensor:
        z = scales[i].encode(problem.test[i].cut(0, end))
        values = torch.where(hidden, torch.nan, z.values)
        window = replace(z, values=values).cut(max(0, end - model.length), end)
        drawn = model.sample([window], SAMPLES, items=[(i, end)])[:, 0]
        return scales[i].decode(drawn, window)

    return run


def point(fill: Callable[[Tensor], Tensor]) -> Callable[[Series, Tensor, Problem], Tensor]:
    return lambda one, hidden, problem: fill(torch.where(hidden, torch.nan, one.values))[None]


def naive(one: Series, hidden: Tensor, problem: Problem) -> Tensor:
    past = one.values[:, : -problem.horizon]
    noise = Seeds.keyed(0, ["naive"]).streams[0]
    made = baselines.seasonal_naive(past, problem.horizon, min(problem.season, past.shape[1] // 2), SAMPLES, noise)
    return made


def state_space(kind: str) -> Callable[[Series, Tensor, Problem], Tensor]:
    """ETS, ARIMA with a season's waves, or a local level, by statsmodels; channel by channel, Gaussian draws."""

    def run(one: Series, hidden: Tensor, problem: Problem) -> Tensor:
        import pandas
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel
        from statsmodels.tsa.statespace.sarimax import SARIMAX
        from statsmodels.tsa.statespace.structural import UnobservedComponents

        values = torch.where(hidden, torch.nan, one.values).numpy()
        keep = min(values.shape[1], 8 * min(problem.season, 96) + problem.length + problem.horizon)
        values, H = values[:, -keep:], problem.horizon
        eps = Seeds.keyed(0, ["state"]).streams[0].normal(torch.empty(SAMPLES, *values.shape)).double().numpy()
        out = []
        for c, row in enumerate(values):
            season, place = min(problem.season, 48), np.arange(len(row))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if kind == "level":
                    fitted = UnobservedComponents(row, "llevel").fit(disp=0)
                    noise = fitted.params[0]
                    mean, var = fitted.smoothed_state[0], fitted.smoothed_state_cov[0, 0] + noise
                    out.append(mean + np.sqrt(np.maximum(var, 0)) * eps[:, c])
                    continue
                past = np.interp(place[:-H], place[:-H][~np.isnan(row[:-H])], row[:-H][~np.isnan(row[:-H])])
                if kind == "ets":
                    seasonal = {"seasonal": "add", "seasonal_periods": season} if season > 1 else {}
                    ways = ({"trend": None}, {"trend": "add", "damped_trend": True})
                    made = [ETSModel(pandas.Series(past), error="add", **way, **seasonal).fit(disp=0) for way in ways]
                    fitted = min(made, key=lambda one: one.aic)
                    table = fitted.get_prediction(len(past), len(past) + H - 1).summary_frame(alpha=0.3173105)
                    mean, std = table["mean"].to_numpy(), (table["pi_upper"] - table["mean"]).to_numpy()
                else:
                    cycles = {problem.season: 3, season: 6 if season < problem.season else 3}
                    waves = [
                        f(2 * np.pi * k * place / cycle) for cycle, most in cycles.items()
                        for k in range(1, most + 1) for f in (np.sin, np.cos)
                    ]
                    exog = np.array(waves).T if problem.season > 1 else None
                    fitted = SARIMAX(past, exog[:-H] if exog is not None else None, order=(2, 0, 1), trend="c").fit(disp=0)
                    ahead = fitted.get_forecast(H, exog=exog[-H:] if exog is not None else None)
                    mean, std = ahead.predicted_mean, ahead.se_mean
                out.append(mean + std * eps[:, c, -H:])
        return torch.from_numpy(np.stack(out, 1))

    return run


FORECASTS: dict[str, Any] = {
    "seasonal naive": naive,
    "ETS": state_space("ets"),
    "ARIMA(2,0,1) with waves": state_space("arima"),
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
    mask = torch.stack([h[..., -rows:] for h in hidden])
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


def evaluate(
    windows: list[tuple[int, int, Tensor]], problem: Problem, methods: dict[str, Any], span: int
) -> dict[str, dict[str, float]]:
    """Every method on the same windows; `span` rows at their end are scored."""
    found = {}
    truth = [problem.test[i].values[:, end - span : end] for i, end, _ in windows]
    hidden = [h[:, -span:] for _, _, h in windows]
    for name, method in methods.items():
        began = time.perf_counter()
        drawn = [method(i, end, h)[..., -span:] for i, end, h in windows]
        found[name] = score(drawn, truth, hidden, time.perf_counter() - began)
        print(f"  {name:32} {found[name]}", flush=True)
    return found


def run(name: str, problem: Problem, minutes: float, steps: int | None) -> dict[str, Any]:
    """All figures of one set."""
    train_scales, test_scales = standards(problem)
    train = [scale.encode(one) for scale, one in zip(train_scales, problem.train, strict=True)]
    done: dict[str, Any] = {"tasks": {}}

    def plain(method: Any) -> Callable[[int, int, Tensor], Tensor]:
        return lambda i, end, h: method(problem.test[i].cut(0, end), h, problem)

    for kind, horizon, lengths in (("forecast", problem.horizon, ()), ("impute", 0, (problem.length,))):
        began = time.perf_counter()
        law = learn(train, horizon=horizon, lengths=lengths, steps=0)
        middle = time.perf_counter()
        whole = learn(train, horizon=horizon, lengths=lengths, minutes=minutes, steps=steps)
        done[kind] = {
            "window": law.length,
            "steps": whole.steps,
            "held_out": {k: round(v, 4) for k, v in whole.held_out.items()},
            "seconds to learn": [round(middle - began, 1), round(time.perf_counter() - middle, 1)],
        }
        print(name, kind, done[kind], flush=True)
        ours_ = {"sfumato": ours(whole, problem, test_scales), "sfumato, law alone": ours(law, problem, test_scales)}
        if horizon:
            methods = {**ours_, **{k: plain(v) for k, v in FORECASTS.items()}}
            done["tasks"]["forecast"] = evaluate(forecast_windows(problem), problem, methods, horizon)
            continue
        ways = ["points 10", "points 50", "points 90", "blocks"]
        ways += ["channel"] if len(problem.test[0].values) > 1 else []
        for way in ways:
            print(name, way, flush=True)
            methods = {**ours_, **{k: plain(v) for k, v in FILLINGS.items()}}
            done["tasks"][way] = evaluate(gap_windows(problem, way), problem, methods, problem.length)
    return done


def main() -> None:
    """Parses the command line, runs, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--only", nargs="*", help="names of sets; all by default")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, for each set and task")
    parser.add_argument("--steps", type=int, help="of training, in the place of --minutes")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, make in problems(args.root).items():
        if args.only and name not in args.only:
            continue
        problem = make()
        found = {
            "set": name,
            "samples": SAMPLES,
            "minutes": args.minutes,
            "horizon": problem.horizon,
            "length": problem.length,
            **run(name, problem, args.minutes, args.steps),
        }
        assert not math.isnan(found["tasks"]["forecast"]["sfumato"]["crps"])
        (args.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
