"""The shipped `series` model on rows of series it was not trained on, and on kinds of series that it never saw.

    python benchmarks/any_series.py --root ROOT --model series --out benchmarks/data/any_series.json

ROOT holds the packages that `sfumato.data.series_sets` names. Asked are the rows that `sfumato.zoo.train_series` leaves
out of its five sets, and six sets that it never opens, marked "new": sunspots, sea temperatures of El Nino, output of
electrical equipment (statsmodels), solar power, airline passengers (aeon), employment in seven trades (vega_datasets).
Six windows of at most 256 rows of each set, or one of each series where they are more; hidden are the last 24, half of
the last 64 at random, or one gap of 16 in them. Nothing is fitted to any of them; seasonal naive is told the season,
the model is not. CRPS: 19 quantile levels of 100 samples over the sum of |y - mean|, each window in the unit of its own
spread.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import torch
from torch import Tensor

import sfumato as sf
from sfumato import baselines, metrics
from sfumato.data import series_sets
from sfumato.noise import Noise
from sfumato.zoo.fill import fill

LENGTH, SAMPLES, COUNT = 256, 100, 6
SEASONS = {"demand": 48, "temperatures": 24, "winds": 12, "co2": 52, "motions": 1}
SEASONS |= {"sunspots": 11, "el nino": 12, "equipment": 12, "solar power": 48, "airline": 12, "employment": 12}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
TRADES = (
    "construction",
    "manufacturing",
    "retail_trade",
    "utilities",
    "information",
    "financial_activities",
    "government",
)


def held_out(root: Path) -> dict[str, list[tuple[Tensor, int]]]:
    """(a series (L,), the first row that was not trained on) of each set."""

    def tail(one: Tensor) -> tuple[Tensor, int]:
        return one, round(0.8 * len(one))

    def column(path: str, *names: str) -> list[tuple[Tensor, int]]:
        with open(root / path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [(torch.tensor([float(row[name]) for row in rows], dtype=torch.float64), 0) for name in names]

    winds = [row for cell in series_sets.winds(root, 31)[::40] for row in cell.values]
    months = column("statsmodels/datasets/elnino/elnino.csv", *MONTHS)
    return {
        "demand": [tail(series_sets.demand(root).values[0])],
        "temperatures": [tail(row) for row in series_sets.temperatures(root).values],
        "winds": [(row, 96) for row in winds],
        "co2": [tail(series_sets.co2(root).values[0])],
        "motions": [(row, 1) for one in series_sets.motions(root, train=False)[::10] for row in one.values],
        "sunspots": column("statsmodels/datasets/sunspots/sunspots.csv", "SUNACTIVITY"),
        "el nino": [(torch.stack([month for month, _ in months], 1).flatten(), 0)],
        "equipment": column("statsmodels/datasets/elec_equip/elec_equip.csv", "STS.M.I7.W.TOVT.NS0016.4.000"),
        "solar power": column("aeon/datasets/data/solar/solar.csv", "solar_gen"),
        "airline": column("aeon/datasets/data/Airline/Airline.csv", "Passengers"),
        "employment": column("vega_datasets/_data/us-employment.csv", *TRADES),
    }


def windows(series: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Windows that end in rows held out, and where their unseen rows may be hidden: both (B, LENGTH)."""
    found, free = [], []
    per = max(1, COUNT // len(series))
    for one, first in series:
        # A set that was not trained on is asked about from its middle on, so that there is a past.
        first = first or len(one) // 2
        low, high = min(first + 40, len(one)), len(one)
        for end in sorted({int(low + (high - low) * (i + 1) / per) for i in range(per)}):
            part = one[max(0, end - LENGTH) : end]
            row = torch.cat([part.new_full((LENGTH - len(part),), torch.nan), part])
            found.append(row)
            free.append((torch.arange(LENGTH) >= LENGTH - min(64, end - first)) & ~row.isnan())
    return torch.stack(found), torch.stack(free)


def gaps(task: str, free: Tensor) -> Tensor:
    """What is hidden, (B, LENGTH)."""
    at = torch.arange(LENGTH)
    if task == "forecast 24":
        return free & (at >= LENGTH - 24)
    if task == "half of the points":
        return free & (Noise(0).uniform(torch.empty(free.shape)) < 0.5)
    return free & (at >= LENGTH - 40) & (at < LENGTH - 24)


def filled(model: sf.Model, row: Tensor, seed: int) -> Tensor:
    """Samples of one window, (S, 1, LENGTH), by what there is of it."""
    first = int((~row.isnan()).nonzero()[0])
    return torch.cat([row[:first].expand(SAMPLES, 1, -1), fill(model, row[None, first:], SAMPLES, seed=seed)], -1)


def main() -> None:
    """Parses the command line, judges, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--model", default="series", help="a shipped name or a folder")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model, found = sf.load(args.model), {}
    sets = held_out(args.root)
    for task in ("forecast 24", "gap of 16", "half of the points"):
        for name, series in sets.items():
            x, free = windows(series)
            hidden = gaps(task, free)
            given = torch.where(hidden, torch.nan, x)
            scale = given.sub(given.nanmean(1, keepdim=True)).square().nanmean(1, keepdim=True).sqrt()
            y = torch.where(hidden, (x - given.nanmean(1, keepdim=True)) / scale, 0.0)
            drawn = {"series": torch.cat([filled(model, row, i) for i, row in enumerate(given)], 1)}
            if task == "forecast 24":
                season = SEASONS[name]
                draws = [
                    baselines.seasonal_naive(row[None, :-24], 24, season, SAMPLES, Noise(1))[:, 0] for row in given
                ]
                ahead = torch.stack(draws, 1)
                drawn["seasonal naive"] = torch.cat([given[:, :-24].expand(SAMPLES, -1, -1), ahead], -1)
            else:
                drawn["interpolation"] = baselines.interpolate(given)[None]
            rows = {}
            for label, one in drawn.items():
                z = torch.where(hidden, (one - given.nanmean(1, keepdim=True)) / scale, 0.0)
                rows[label] = {"crps": round(float(metrics.quantile_crps(z, y, hidden)), 3)}
                if len(z) > 1:
                    low, high = metrics.central_interval(z, 0.9)
                    rows[label]["cover90"] = round(float(((low <= y) & (y <= high))[hidden].double().mean()), 2)
            new = " (new)" if series[0][1] == 0 else ""
            found[f"{name}{new}, {task}"] = rows
            print(f"{name}{new}, {task}: {rows}", flush=True)
            if args.out:
                args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
