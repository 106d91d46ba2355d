"""Restoration through a latent space and through pixels, on Fashion-MNIST, at equal calls of the network.

    python benchmarks/latent.py --root ROOT --out benchmarks/data/latent.json

The shipped model `latent` with DPS, PSLD, ReSample and STSL, the shipped `fashion` model with DDRM,
DiffPIR, DPS and the library's own choice, on the first --count test pictures, noise 0.02 of the range: a hole, lost
pixels, enlargement by 2 and 4, a blur. One sample of each. The weight that each gradient method has is the best of
three on --tuning training pictures, task by task; nothing is tuned on the test pictures. Beside them what the
autoencoder keeps of 500 test pictures: about what a method in its space can reach. A rerun without --picture does what
is missing in --out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from shared import keep, options, show
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import sfumato as sf
from sfumato import metrics, operators
from sfumato.data.labelled import fashion_mnist
from sfumato.operators import Measurement, Operator
from sfumato.operators.levels import chi_square
from sfumato.solvers import DDRM, DPS, PSLD, STSL, DiffPIR, ReSample, Solver

CALLS, SIGMA, CODED = 100, 0.02, 500
# 75 steps and 5 fits with 5 further calls each; few and large moves, where the paper has many and small ones
FITS: dict[str, Any] = {"steps": 75, "pixel_moves": 300, "latent_moves": 100, "latent_lr": 0.03}


def tasks() -> dict[str, Operator]:
    """The operators, on pictures (1, 28, 28) in [0, 1]."""
    hole = torch.ones(28, 28)
    hole[9:19, 9:19] = 0.0
    lost = (sf.Noise(0).uniform(torch.empty(28, 28)) < 0.3).float()
    return {
        "hole of 10 x 10": operators.Mask(hole),
        "70 % of the pixels lost": operators.Mask(lost),
        "enlarged 2 x": operators.Downsample(2),
        "enlarged 4 x": operators.Downsample(4),
        "blur of 1.5 pixels": operators.Blur.gaussian((28, 28), 1.5),
    }


# Name, model, solver of the weight, weights to choose from (none: nothing to choose).
METHODS: dict[str, tuple[str, Callable[[float], Solver], tuple[float, ...]]] = {
    "DDRM": ("fashion", lambda w: DDRM(CALLS), ()),
    "DiffPIR": ("fashion", lambda w: DiffPIR(CALLS), ()),
    "DPS": ("fashion", lambda w: DPS(CALLS, w), (0.3, 1.0, 3.0)),
    "the default": ("fashion", lambda w: DDRM(CALLS), ()),  # chosen by the measurement, below
    "DPS on codes": ("latent", lambda w: DPS(CALLS, w), (0.3, 1.0, 3.0)),
    "PSLD": ("latent", lambda w: PSLD(CALLS, w, 0.1 * w), (0.3, 1.0, 3.0)),
    "ReSample": ("latent", lambda w: ReSample(zeta=w, **FITS), (0.5, 2.0, 8.0)),
    "STSL": ("latent", lambda w: STSL(9, omega=w), (0.1, 0.3, 1.0)),
}
KEYS = {"psld": "PSLD", "resample": "ReSample", "stsl": "STSL"}


def restored(model: sf.Model, m: Measurement, solver: Solver | None) -> tuple[Tensor, float, int]:
    """(one sample of each picture, seconds a picture, calls)."""
    began = time.perf_counter()
    result = model.restore(m, solver=solver, steps=CALLS if solver is None else None, seed=0, batch=len(m))
    return result.samples[0], (time.perf_counter() - began) / len(m), result.nfe


def measured(operator: Operator, x: Tensor) -> Measurement:
    """The pictures through the operator, with noise."""
    return Measurement.simulate(operator, x, sigma=SIGMA, noise=sf.Seeds.keyed(0, range(len(x))))


def scores(x: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR with its standard error and SSIM, mean over pictures."""
    x = x.clamp(0.0, 1.0)
    psnr = metrics.psnr(x, truth)
    return {
        "psnr": round(float(psnr.mean()), 2),
        "error": round(float(psnr.std()) / len(x) ** 0.5, 2),
        "ssim": round(float(metrics.ssim(x, truth).mean()), 3),
    }


def row(name: str, operator: Operator, models: dict[str, sf.Model], tuning: Tensor, truth: Tensor) -> tuple[Any, Any]:
    """What a method reaches at a task, and its pictures."""
    key, make, weights = METHODS[name]
    best: dict[float, float] = {}
    for w in weights:
        try:
            tried, _, _ = restored(models[key], measured(operator, tuning), make(w))
            best[w] = scores(tried, tuning)["psnr"]
        except FloatingPointError:
            best[w] = float("-inf")
    weight = max(best, key=best.__getitem__) if best else None
    m = measured(operator, truth)
    solver = None if name == "the default" else make(weight or 0.0)
    x, seconds, calls = restored(models[key], m, solver)
    found: dict[str, Any] = {
        "space": key,
        "weight": weight,
        **scores(x, truth),
        "misfit": round(float(chi_square(m, x).mean()), 2),
    }
    return found | {"calls": calls, "seconds": round(seconds, 2)}, x


def line(result: dict[str, Any], name: str) -> str:
    """The figure of one method, in words."""
    parts = []
    for task, rows in result["tasks"].items():
        pixels = max((n for n in rows if rows[n]["space"] == "fashion"), key=lambda n: rows[n]["psnr"])
        parts.append(f"{task} {rows[name]['psnr']} dB ({pixels} in pixels {rows[pixels]['psnr']})")
    ceiling = f"the autoencoder alone {result['autoencoder']['psnr']} dB"
    return f"{'; '.join(parts)}; {ceiling}; {CALLS} calls"


def main() -> None:
    """Parses the command line, restores, scores, writes."""
    parser = options(__doc__)
    parser.add_argument("--model", default="latent", help="or a folder RUN/prior of sfumato.zoo.train_latent")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--tuning", type=int, default=2)
    args = parser.parse_args()
    models = {"latent": sf.load(args.model), "fashion": sf.load("fashion")}
    tuning, truth = (
        0.5 + 0.5 * fashion_mnist(args.root, train=train).batch(list(range(n)), None)[0]  # type: ignore[arg-type]
        for train, n in ((True, args.tuning), (False, args.count))
    )
    codec = models["latent"].codec
    many = 0.5 + 0.5 * fashion_mnist(args.root, train=False).batch(list(range(CODED)), None)[0]  # type: ignore[arg-type]
    copies = codec.decode(codec.encode(many))
    kept = copies[: len(truth)]
    result: dict[str, Any] = {"calls": CALLS, "sigma": SIGMA, "pictures": args.count, "tuning": args.tuning}
    result |= {"coded": CODED, "autoencoder": scores(copies, many), "tasks": {}, "minutes": 0.0}
    if args.out.exists():
        result = json.loads(args.out.read_text("utf-8"))
    sheet, before = {}, result["minutes"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for task, operator in tasks().items():
        rows = result["tasks"].setdefault(task, {})
        y = measured(operator, truth[:1]).y
        sheet[task] = [truth[0], F.interpolate(y, (28, 28))[0], kept[0]]
        for name in tqdm(METHODS, desc=task, mininterval=5):
            if name not in rows or args.picture:
                rows[name], x = row(name, operator, models, tuning, truth)
                sheet[task].append(x[0])
            result["minutes"] = round(before + (time.perf_counter() - args.began) / 60, 1)
            args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if args.picture:
        show(args.picture, 2.0 * torch.stack([torch.stack(row)[:, 0] for row in sheet.values()]) - 1.0, 3)
    args.began -= 60 * before
    for key, name in KEYS.items():
        keep(args, key, f"Fashion-MNIST, {args.count} test pictures, noise {SIGMA}", line(result, name))


if __name__ == "__main__":
    main()
