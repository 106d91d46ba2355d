"""CSDI and TimeGrad on monthly winds: imputing 36 months, forecasting 12, against what is exact for normals.

    python benchmarks/winds.py csdi --root ROOT --out benchmarks/data/figures --picture docs/pictures

ROOT holds Debian's package ferret-datasets, unpacked. 340 cells (one in 31) of two winds; trained on the first 96
months, judged on the 36 after them in one of 16 cells. Each wind of a cell is put on the scale of its first 96
months. The hard baseline is the Gaussian law of windows that begin in January, fitted to the 96 months of all cells,
whose conditional law is exact. Networks predict eps and are sampled as in the papers, in 25 of their 50 steps. CRPS: 19
quantile levels of 100 samples over the sum of |y|, in the unit of scale.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sfumato as sf
from sfumato import baselines, metrics
from sfumato.data import series_sets
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise, Seeds
from sfumato.operators import Mask, Measurement
from sfumato.recipes import csdi, timegrad
from sfumato.samplers import paths
from sfumato.training import Ema, fit, warmup_decay
from sfumato.worlds import GaussianWorld

SEEN, SAMPLES = 96, 100
SIZES = {"csdi": 36, "timegrad": 48}
RECIPES: dict[str, Any] = {
    "csdi": csdi.Recipe(
        channels=2, covariates=2, width=32, blocks=2, heads=4, forward=32, dropout=0.0, strategy="random"
    ),
    "timegrad": timegrad.Recipe(channels=2, covariates=2, lags=(1, 2, 3, 12), horizon=12, steps=50),
}


class Windows:
    """Windows of the months that are trained on, from every cell and start."""

    def __init__(self, z: Tensor, length: int) -> None:
        self.z, self.length, self.calendar = z.float(), length, calendar(z.shape[-1])

    def __len__(self) -> int:
        return len(self.z) * (SEEN - self.length + 1)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        places = [divmod(item, SEEN - self.length + 1) for item in items]
        x0 = torch.stack([self.z[cell, :, s : s + self.length] for cell, s in places])
        return x0, {"covariates": torch.stack([self.calendar[:, s : s + self.length] for _, s in places])}


def calendar(months: int) -> Tensor:
    """Sine and cosine of the month, (2, months)."""
    angle = 2 * math.pi * torch.arange(months) / 12
    return torch.stack([angle.sin(), angle.cos()])


def standardized(root: Path) -> Tensor:
    """All cells on the scale of their months that are trained on, (cells, 2, 132)."""
    x = torch.stack([cell.values for cell in series_sets.winds(root, 31)])
    return (x - x[..., :SEEN].mean(-1, keepdim=True)) / x[..., :SEEN].std(-1, keepdim=True)


def trained(key: str, z: Tensor, steps: int) -> Denoiser:
    """The averaged denoiser after `steps` steps of 32 windows."""
    torch.manual_seed(0)  # the first weights
    recipe = RECIPES[key]
    objective = recipe.objective(recipe.model())
    optimizer, ema = torch.optim.Adam(objective.parameters(), 2e-3), Ema(objective, 0.998)
    schedule = warmup_decay(steps, decay=0.6)
    for step in fit(objective, Windows(z, SIZES[key]), optimizer, steps=steps, batch=32, ema=ema, schedule=schedule):
        if step.index % 100 == 0:
            print(step.index, round(step.loss, 4), flush=True)
    denoiser = ema.average.denoiser.eval()
    assert isinstance(denoiser, Denoiser)
    return denoiser


def gaussian(z: Tensor, x: Tensor, masks: Tensor) -> Tensor:
    """Draws of the conditional Gaussian law, (S, B, 2, L)."""
    L = x.shape[-1]
    seen = torch.cat([z[..., s : s + L] for s in range(0, SEEN - L + 1, 12)]).flatten(1)
    law = GaussianWorld(seen.mean(0).reshape(2, L), seen.T.cov() + 0.01 * torch.eye(2 * L))
    drawn = [
        law.posterior(Measurement(Mask(mask), (row * mask)[None], 0.0)).sample(SAMPLES, Noise(i))
        for i, (row, mask) in enumerate(zip(x, masks, strict=True))
    ]
    return torch.stack(drawn, 1)


def climatology(z: Tensor, x: Tensor) -> Tensor:
    """Draws from the normal of each month of each cell, (S, B, 2, L)."""
    years = z[::16, :, :SEEN].unflatten(-1, (-1, 12))
    repeat = x.shape[-1] // 12
    mean, std = (v.repeat(1, 1, repeat) for v in (years.mean(2), years.std(2)))
    return mean + std * Noise(1).normal(torch.empty(SAMPLES, *x.shape, dtype=x.dtype))


def figures(drawn: Tensor, x: Tensor, masks: Tensor) -> dict[str, float]:
    hidden = masks == 0
    low, high = metrics.central_interval(drawn, 0.9)
    return {
        "crps": round(float(metrics.quantile_crps(drawn, x, hidden)), 4),
        "crps_sum": round(float(metrics.crps_sum(drawn, x, hidden)), 4),
        "mae": round(float((metrics.quantiles(drawn, (0.5,))[0] - x)[hidden].abs().mean()), 4),
        "cover90": round(float(((low <= x) & (x <= high))[hidden].double().mean()), 3),
    }


def tasks(key: str, x: Tensor) -> dict[str, Tensor]:
    """Masks of what is given, (B, 2, L)."""
    if key == "timegrad":
        return {"forecast 12": (torch.arange(x.shape[-1]) < x.shape[-1] - 12).double().expand_as(x)}
    u = Noise(2).uniform(torch.empty(x.shape))
    return {f"hide {share} %": (u >= share / 100).double() for share in (10, 90, 50)}


def main() -> None:
    """Parses the command line, trains, judges, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("key", choices=sorted(RECIPES))
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--out", type=Path, help="folder of figures")
    parser.add_argument("--picture", type=Path, help="folder of pictures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began, key = time.perf_counter(), args.key
    z, recipe = standardized(args.root), RECIPES[args.key]
    denoiser = trained(key, z, args.steps)
    x = z[::16, :, -SIZES[key] :]
    known = calendar(z.shape[-1])[:, -SIZES[key] :].expand(len(x), -1, -1)
    times, sampler = sf.grids.table(recipe.process(), 25), recipe.sampler()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, masks in tasks(key, x).items():
        cond = {"observed": (x * masks).float(), "mask": masks.float(), "covariates": known}
        drawn = paths(denoiser, cond, SAMPLES, times=times, sampler=sampler, batch=1700).double()
        others = {"exact Gaussian": gaussian(z, x, masks), "climatology": climatology(z, x)}
        if key == "csdi":
            gappy = torch.where(masks > 0, x, torch.nan)
            others["interpolation"] = torch.stack([baselines.interpolate(row) for row in gappy])[None]
        else:
            past = x[..., :-12]
            ahead = torch.stack([baselines.seasonal_naive(p, 12, 12, SAMPLES, Noise(3)) for p in past], 1)
            others["seasonal naive"] = torch.cat([past.expand(SAMPLES, *past.shape), ahead], -1)
        found[name] = {label: figures(d, x, masks) for label, d in {key: drawn, **others}.items()}
        print(name, json.dumps(found[name], indent=1), flush=True)
        if args.picture:
            picture(args.picture / f"{key}.png", drawn, x, masks, name)
    if args.out:
        write(args.out / f"{key}.json", key, found, (time.perf_counter() - began) / 60, args.steps)


def write(path: Path, key: str, found: dict[str, dict[str, dict[str, float]]], minutes: float, steps: int) -> None:
    """The figure of the key."""
    parts = [
        f"{name}: CRPS {rows[key]['crps']:.3f} ("
        + ", ".join(f"{other} {row['crps']:.3f}" for other, row in rows.items() if other != key)
        + f"), 90 % interval covers {rows[key]['cover90']:.0%}"
        for name, rows in found.items()
    ]
    text = {
        "data": "monthly winds of 340 cells, trained on 8 years, judged on the 3 after them",
        "figure": "; ".join(parts),
        "command": f"python benchmarks/winds.py {key} --root ROOT --steps {steps}",
        "minutes": round(minutes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(text, indent=1) + "\n", "utf-8")


def picture(path: Path, drawn: Tensor, x: Tensor, masks: Tensor, name: str) -> None:
    """Fans of the 50 % and 90 % intervals of six winds, with what was given and what was hidden."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(10, 4.2), sharex=True, constrained_layout=True)
    months = torch.arange(x.shape[-1])
    for i, axis in enumerate(axes.flat):
        row, channel = 3 * i + 2, i % 2
        fan, given = drawn[:, row, channel], masks[row, channel] > 0
        for level, shade in ((0.9, 0.25), (0.5, 0.45)):
            low, high = metrics.central_interval(fan[:, None], level)
            axis.fill_between(months, low[0], high[0], color="tab:blue", alpha=shade, linewidth=0)
        axis.plot(months, metrics.quantiles(fan, (0.5,))[0], color="tab:blue", linewidth=1)
        axis.plot(months[given], x[row, channel][given], "k.", markersize=4)
        axis.plot(months[~given], x[row, channel][~given], "x", color="tab:red", markersize=4)
        axis.set_title(f"cell {row}, {('east', 'north')[channel]}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.suptitle(f"{path.stem}, {name}: given (dots), hidden (crosses), median, 50 % and 90 %", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
