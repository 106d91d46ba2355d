"""Small versions of the methods that are trained on pairs, on photographs, against a regression of equal cost.

    python benchmarks/restorers.py sr3 --root ROOT

Each key of `TABLE` is trained on crops 32 x 32 of damaged photographs for --minutes of processor time (AdamW with one
cycle of the rate, a moving average of the weights), and draws 8 samples of each of 24 crops 64 x 64 of photo12, which
no training sees. Beside it a regression U-Net of the same widths, trained as long on the same damage. Every tenth
photograph is left out, for choosing settings. Trained weights are kept in build/restorers, the figures in
benchmarks/data/figures and a sheet (damaged, one sample, mean of 8, regression, truth) in docs/pictures.

PSNR is that of the mean square error of all crops together. HF: energy of the Laplacian, of the output over that of
the truth; 1 is right, a regression is below. Spread: variance of the samples x (1 + 1/8) over the mean square error of
their mean; 1 where samples are calibrated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from shared import sheet
from torch import Tensor, nn
from torch.nn import functional as F

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data import damages
from sfumato.data.paired import PairCrops, damaged
from sfumato.data.photo12 import photo12
from sfumato.data.photographs import photographs, reduced
from sfumato.nets import UNet
from sfumato.nets.regressor import Regressor
from sfumato.recipes import load
from sfumato.training import Ema, fit
from sfumato.training.regression import Regression

WIDTHS = (16, 32, 64)
SIDE, SEEN, CROPS, DRAWS, BATCH = 32, 64, 24, 8, 16


@dataclass(frozen=True)
class Entry:
    """What a key is trained on, and how it is drawn from: fields of its recipe, network calls; the longer side of the
    photographs, and how often each is damaged. The damage "redrawn" is that of diff-gar, by the shipped photo model."""

    damage: str
    fields: dict[str, Any] = field(default_factory=dict)
    steps: int | None = 50
    limit: int = 512
    ways: int = 2


# One line a key.
TABLE: dict[str, Entry] = {
    "sr3": Entry("enlarge:4"),
    "palette": Entry("hole:0.25", steps=50),
    "cdm": Entry("enlarge:2"),
    "sr3-plus": Entry("real"),
    "cdpmsr": Entry("enlarge:4", {"first_steps": 700}),
    "sr-sde": Entry("enlarge:4", {"kind": "vp"}),
    "diff-gar": Entry("redrawn", limit=160, ways=1),
    "unit-ddpm": Entry("haze:middle"),
    "srdiff": Entry("enlarge:4", {"pretrain": 700}),
    "dvsr": Entry("motion:15"),
    "resdiff": Entry("enlarge:4", {"pretrain": 300, "scale": 0.15}),
    "weather-diffusion": Entry("snow", {"window": 32, "stride": 8}, steps=25),
    "diffll": Entry("lowlight", {"inside": 4}, steps=10),
    "pydiff": Entry("lowlight", steps=4),
    "diffir": Entry("motion:15", {"size": 32, "encoder": 32, "depth": 2, "pretrain": 700}, steps=4),
    "ir-sde": Entry("rain:heavy", steps=None),
    "driftrec": Entry("jpeg:10", steps=None),
    "indi": Entry("motion:middle", steps=None),
    "dmid": Entry("noise:25", steps=None),
    "refusion": Entry("rain:heavy", steps=None),
}


def harm(name: str) -> damages.Damage:
    """The damage of this name."""
    if name != "redrawn":
        return damages.parse(name)
    made: damages.Damage = load("diff-gar").Recipe().damage(sf.load("photo").denoiser)
    return made


def pictures(root: Path, keep: Path, limit: int) -> list[np.ndarray]:
    """The photographs, reduced; kept in a file, since reading large ones takes a while."""
    if not keep.exists():
        found = [reduced(picture, limit) for i, (_, picture) in enumerate(photographs(root)) if i % 10 != 9]
        keep.parent.mkdir(parents=True, exist_ok=True)
        np.savez(keep, *found)
    with np.load(keep) as kept:
        return [kept[name] for name in kept.files]


def pairs(found: list[np.ndarray], entry: Entry) -> PairCrops:
    """Crops of every photograph, damaged in a few ways, all made before the clock runs."""
    data = damaged(found * entry.ways, harm(entry.damage), SIDE, 3, variants=1, flat=0.04)
    for item in range(len(data)):
        data.batch([item], sf.Seeds([item]))
    return data


def held_out(root: Path, damage: str) -> dict[str, Tensor]:
    """Two crops of each picture of photo12, damaged whole: "x0", "image", ... (24, C, 64, 64), data space."""
    crops: list[dict[str, Tensor]] = []
    for number, (_, x) in enumerate(photo12(root)):
        noise = sf.Noise(1).at(number)
        parts = {"x0": x, **harm(damage)(x, noise)}
        while len(crops) < 2 * (number + 1):
            top, left = (noise.uniform(torch.empty(2)) * (x.shape[1] - SEEN + 1)).long().tolist()
            crop = {key: v[:, top : top + SEEN, left : left + SEEN] for key, v in parts.items()}
            if crop["x0"].std() >= 0.04:
                crops.append(crop)
    return {key: torch.stack([crop[key] for crop in crops[:CROPS]]) for key in crops[0]}


def train(objective: nn.Module, kept: nn.Module, data: PairCrops, minutes: float, rate: float = 2e-3) -> int:
    """Trains for so many minutes of processor time and leaves the averaged weights in `kept`; returns the steps."""
    ema, steps = Ema(kept, 0.995), 0
    optimizer = torch.optim.AdamW(objective.parameters(), rate)
    began = time.process_time()

    def cycle(step: int) -> float:
        done = min(1.0, (time.process_time() - began) / (60.0 * minutes))
        return max(1e-3, done / 0.1 if done < 0.1 else 0.5 * (1.0 + math.cos(math.pi * (done - 0.1) / 0.9)))

    class Follow:
        """The average of what is kept, whatever the objective holds beside."""

        def update(self, module: nn.Module) -> None:
            ema.update(kept)

    for step in fit(objective, data, optimizer, steps=10**9, batch=BATCH, ema=Follow(), schedule=cycle):
        steps = step.index
        if time.process_time() - began > 60.0 * minutes:
            break
    kept.load_state_dict(ema.average.state_dict())
    kept.eval().requires_grad_(False)
    return steps


def learned(module: nn.Module, path: Path, training: Callable[[], int]) -> int:
    """The steps of a training, done once: its weights are read where they are kept."""
    note = path.with_suffix(".json")
    if path.exists():
        module.load_state_dict(load_file(path))
        module.eval().requires_grad_(False)
        return int(json.loads(note.read_text("utf-8"))["steps"])
    steps = training()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)
    note.write_text(json.dumps({"steps": steps}), "utf-8")
    return steps


def detail(x: Tensor) -> float:
    """Energy of the Laplacian."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).expand(x.shape[1], 1, 3, 3)
    return float(F.conv2d(x, kernel, groups=x.shape[1]).square().mean())


def psnr(x: Tensor, truth: Tensor) -> float:
    """Of the mean square error of all crops together."""
    return -10.0 * math.log10(float((x - truth).square().mean()))


def main() -> None:
    """Parses the command line, trains, draws, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("key", choices=TABLE)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--minutes", type=float, default=4.0, help="of processor time, for each of the two networks")
    parser.add_argument("--build", type=Path, default=Path("build/restorers"), help="weights and photographs")
    parser.add_argument("--out", type=Path, default=Path(), help="where benchmarks/data/figures and docs/pictures are")
    args = parser.parse_args()
    entry, began = TABLE[args.key], time.perf_counter()
    torch.manual_seed(0)  # the first weights
    recipe = load(args.key).Recipe(widths=WIDTHS, **entry.fields)
    made: list[PairCrops] = []

    def data() -> PairCrops:
        if not made:
            found = pictures(args.root, args.build / f"photographs-{entry.limit}.npz", entry.limit)
            made.append(pairs(found, entry))
        return made[0]

    def place(name: str) -> Path:
        return Path(args.build / f"{name}-{args.minutes:g}.safetensors")

    plain = Regressor(UNet(3, WIDTHS, 1))
    learned(plain, place("regression-" + entry.damage.replace(":", "-")), lambda: train(
        Regression(plain), plain, data(), args.minutes
    ))  # fmt: skip
    denoiser = recipe.model()
    steps = learned(
        denoiser, place(args.key), lambda: train(recipe.objective(denoiser), denoiser, data(), args.minutes)
    )
    fields = dataclasses.asdict(recipe)
    model = sf.Model(Affine.unit(), denoiser, {"recipe": args.key, "fields": fields, "event": [3, None, None]})
    parts = held_out(args.root, entry.damage)
    x0, y = parts.pop("x0"), parts.pop("image")
    result = model.enhance(y, samples=DRAWS, steps=entry.steps, beside=parts, batch=48)
    samples = result.samples.clamp(0.0, 1.0)
    mean, one = samples.mean(0), samples[0]
    with torch.no_grad():
        regressed = model.codec.decode(plain(model.codec.encode(y))).clamp(0.0, 1.0)
    spread = float(samples.var(0).mean()) * (1 + 1 / DRAWS) / float((mean - x0).square().mean())
    shown = (("input", y), ("one sample", one), (f"mean of {DRAWS}", mean), ("regression", regressed))
    words = ", ".join(f"{name} {psnr(x, x0):.2f} dB (HF {detail(x) / detail(x0):.2f})" for name, x in shown)
    line = {
        "data": f"photographs, {entry.damage}; {CROPS} crops {SEEN} x {SEEN} of photo12",
        "figure": f"{words}; spread {spread:.2f}; {result.nfe} calls, {steps} training steps of {BATCH}",
        "command": f"python benchmarks/restorers.py {args.key} --root ROOT --minutes {args.minutes:g}",
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    figures = args.out / "benchmarks/data/figures"
    figures.mkdir(parents=True, exist_ok=True)
    (figures / f"{args.key}.json").write_text(json.dumps(line, indent=1) + "\n", "utf-8")
    rows = [[x[i] for x in (y, one, mean, regressed, x0)] for i in (0, 8, 16)]
    sheet(args.out / f"docs/pictures/{args.key}.png", rows, factor=2)
    print(line["figure"])


if __name__ == "__main__":
    main()
