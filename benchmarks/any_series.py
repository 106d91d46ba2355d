"""The shipped `series` model on rows of series it was not trained on, and on a kind of series it never saw.

    python benchmarks/any_series.py --root ROOT --model series --out benchmarks/data/any_series.json

ROOT holds the packages that `sfumato.data.series_sets` names. Windows of 128 numbers end in the rows that
`sfumato.zoo.train_series` leaves out; hidden are the last 24, half of the last 64 at random, or one gap of 16 in them.
Sunspots (yearly, statsmodels) were not trained on at all. Nothing is fitted to any of them. CRPS: 19 quantile levels of
100 samples over the sum of |y - mean|, each window in the unit of its own spread.
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

LENGTH, SAMPLES, COUNT = 128, 100, 12
SEASONS = {"demand": 48, "temperatures": 24, "winds": 12, "co2": 52, "motions": 1, "sunspots": 11}


def held_out(root: Path) -> dict[str, list[tuple[Tensor, int]]]:
    """(a series (L,), the first row that was not trained on) of each set."""

    def tail(one: Tensor) -> tuple[Tensor, int]:
        return one, round(0.8 * len(one))

    winds = [row for cell in series_sets.winds(root, 31)[::40] for row in cell.values]
    with open(root / "statsmodels" / "datasets" / "sunspots" / "sunspots.csv", encoding="utf-8") as file:
        spots = torch.tensor([float(row["SUNACTIVITY"]) for row in csv.DictReader(file)], dtype=torch.float64)
    return {
        "demand": [tail(series_sets.demand(root).values[0])],
        "temperatures": [tail(row) for row in series_sets.temperatures(root).values],
        "winds": [(row, 96) for row in winds],
        "co2": [tail(series_sets.co2(root).values[0])],
        "motions": [(row, 0) for one in series_sets.motions(root, train=False)[::10] for row in one.values],
        "sunspots": [(spots, 0)],
    }


def windows(series: list[tuple[Tensor, int]], hidden: int) -> tuple[Tensor, Tensor]:
    """Windows that end in rows held out, and where their unseen rows may be hidden: both (B, LENGTH)."""
    found, free = [], []
    per = max(1, COUNT // len(series))
    for one, first in series:
        low, high = min(max(first + hidden, min(LENGTH, len(one))), len(one)), len(one)
        for end in {int(low + (high - low) * (i + 1) / per) for i in range(per)}:
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


def main() -> None:
    """Parses the command line, judges, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--model", default="series", help="a shipped name or a folder")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model, found = sf.load(args.model), {}
    for name, series in held_out(args.root).items():
        for task in ("forecast 24", "half of the points", "gap of 16"):
            x, free = windows(series, 40)
            hidden = gaps(task, free)
            given = torch.where(hidden, torch.nan, x)
            scale = given.sub(given.nanmean(1, keepdim=True)).square().nanmean(1, keepdim=True).sqrt()
            y = torch.where(hidden, (x - given.nanmean(1, keepdim=True)) / scale, 0.0)
            drawn = {"series": fill(model, given, SAMPLES)}
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
            found[f"{name}, {task}"] = rows
            print(f"{name}, {task}: {rows}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
