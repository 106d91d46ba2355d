"""EDM2 on Fashion-MNIST: the held-out loss against the length of the average, chosen after training; EDM beside it.

    python benchmarks/edm2.py --root ROOT [--steps 400]

Trains the recipe `edm2` with power-function averages of widths 0.05 and 0.10, keeps ten snapshots, and reconstructs
averages of other widths at the end. The loss is EDM's, w(sigma) |x_0 - D|^2 a number (1 for a network that says 0), on
1,000 test images at levels and noise that are the same for all. EDM's recipe with the library's U-Net is trained on
the same batches, for as many steps, with the library's moving average.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sfumato import Noise
from sfumato.data.labelled import Labelled, fashion_mnist
from sfumato.recipes import edm, edm2
from sfumato.training import Denoising, Ema, LogNormal, edm_weight, fit, inverse_sqrt, reconstruct, warmup_decay

WIDTHS = (0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20, 0.25)
NETWORK: dict[str, Any] = {
    "channels": 1, "widths": (16, 32), "blocks": 1, "patch": 2, "classes": 10, "sigma_data": 0.7, "mean": -0.8,
    "std": 1.3,
}  # fmt: skip


def held_out(denoiser: torch.nn.Module, data: Labelled, noise: Noise) -> float:
    """EDM's loss on the first 1,000 images."""
    law = LogNormal(NETWORK["mean"], NETWORK["std"])
    loss = Denoising(denoiser.eval(), law, edm_weight(NETWORK["sigma_data"]))  # type: ignore[arg-type]
    total = 0.0
    with torch.no_grad():
        for first in range(0, 1000, 250):
            x0, label = data.batch(list(range(first, first + 250)), None)  # type: ignore[arg-type]  # nothing is drawn
            total += float(loss(x0, label, noise).mean()) / 4
    return total


def main() -> None:
    """Parses the command line, trains both, prints and writes the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "figures" / "edm2.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began, test, data = time.perf_counter(), fashion_mnist(args.root, train=False), fashion_mnist(args.root)
    report: dict[str, Any] = {}

    torch.manual_seed(0)  # the first weights
    recipe = edm2.Recipe(**NETWORK)
    objective = recipe.objective(recipe.model())
    average, snapshots = recipe.average(objective.denoiser), []
    optimizer = torch.optim.Adam(objective.parameters(), 0.01, betas=(0.9, 0.99))
    schedule = inverse_sqrt(args.steps // 5, warmup=50)
    steps = fit(objective, data, optimizer, steps=args.steps, batch=args.batch, schedule=schedule)
    for step in tqdm(steps, total=args.steps, desc="edm2", mininterval=10):
        average.update(objective.denoiser)
        if step.index % max(1, args.steps // 10) == 0:
            snapshots += average.snapshots()
    report["edm2, last weights"] = held_out(objective.denoiser, test, Noise(1))
    for width in WIDTHS:
        average.averages[0].load_state_dict(reconstruct(snapshots, width))
        report[f"edm2, width {width}"] = held_out(average.averages[0], test, Noise(1))
        print(width, report[f"edm2, width {width}"], flush=True)

    torch.manual_seed(0)
    plain = edm.Recipe(**NETWORK)
    objective = plain.objective(plain.model())
    ema = Ema(objective, 0.99)
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-3, betas=(0.9, 0.99))
    steps = fit(
        objective, data, optimizer, steps=args.steps, batch=args.batch, ema=ema, schedule=warmup_decay(args.steps)
    )
    for _ in tqdm(steps, total=args.steps, desc="edm", mininterval=10):
        pass
    report["edm, average"] = held_out(ema.average.denoiser, test, Noise(1))
    best = min(WIDTHS, key=lambda width: report[f"edm2, width {width}"])
    found = {
        "data": f"Fashion-MNIST, {args.steps} steps of {args.batch}, loss on 1,000 test images",
        "figure": f"loss {report[f'edm2, width {best}']:.4f} at the average's width {best:g}, chosen after training "
        f"({report[f'edm2, width {WIDTHS[0]}']:.4f} at {WIDTHS[0]:g}, {report[f'edm2, width {WIDTHS[-1]}']:.4f} at "
        f"{WIDTHS[-1]:g}; last weights {report['edm2, last weights']:.4f}); EDM's recipe {report['edm, average']:.4f}",
        "command": f"python benchmarks/edm2.py --root ROOT --steps {args.steps}",
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    print(json.dumps(found, indent=1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
