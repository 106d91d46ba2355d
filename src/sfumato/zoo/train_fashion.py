"""Trains the shipped `fashion` model: `python -m sfumato.zoo.train_fashion --root ROOT --run RUN`.

ROOT holds Debian's package dataset-fashion-mnist, unpacked. The run continues from its last checkpoint, bit for bit;
`sf.load(RUN).save(FOLDER, half=True)` makes a model of it.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from tqdm import tqdm

from sfumato.data.labelled import fashion_mnist
from sfumato.recipes.edm import Recipe
from sfumato.training import warmup_decay
from sfumato.training.runs import run

RECIPE = Recipe(
    channels=1, widths=(64, 128), blocks=2, patch=2, attention=(1,), classes=10, sigma_data=0.7, mean=-0.8, std=1.3
)


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--decay", type=float, default=0.5, help="share of the run in which the rate falls to 0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)  # the first weights
    steps = run(
        args.run,
        {"recipe": "edm", "fields": dataclasses.asdict(RECIPE), "event": [1, 28, 28]},
        RECIPE.objective(RECIPE.model()),
        fashion_mnist(args.root),
        steps=args.steps,
        batch=args.batch,
        recipe=Recipe,
        schedule=warmup_decay(args.steps, warmup=200, decay=args.decay),
        device=args.device,
    )
    for _ in tqdm(steps, total=args.steps, desc="fashion", mininterval=10):
        pass


if __name__ == "__main__":
    main()
