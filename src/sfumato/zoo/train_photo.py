"""Trains the shipped `photo` model: `python -m sfumato.zoo.train_photo --root ROOT --run RUN`.

ROOT holds the unpacked packages that `sfumato.data.photographs` names. The run continues from its last checkpoint, bit
for bit; a longer `--steps` prolongs it as long as the decay of the learning rate has not begun, and `--start photo
--seed 1` begins a second run with the weights of a model.
`sf.load(RUN).save(FOLDER, half=True)` makes a model of it. Levels are drawn a little lower and wider than EDM's, since
restoration lives at low noise.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sfumato.data.crops import Crops
from sfumato.data.photographs import photographs, reduced
from sfumato.recipes.edm import Recipe
from sfumato.training import warmup_decay
from sfumato.training.runs import run
from sfumato.zoo.files import find, read_weights

RECIPE = Recipe(channels=3, widths=(64, 96, 160), blocks=2, patch=2, mean=-1.4, std=1.4)


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=5200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--start", help="a model whose weights a new run begins with: `photo`, or a folder")
    parser.add_argument("--seed", type=int, default=0, help="of crops, levels and noise: another for a second run")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.32, help="share of the run in which the rate falls to 0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)  # the first weights

    denoiser = RECIPE.model()
    if args.start:
        read_weights(find(args.start), denoiser)
    steps = run(
        args.run,
        {"recipe": "edm", "fields": dataclasses.asdict(RECIPE)},
        RECIPE.objective(denoiser),
        Crops(_bank(args.root, args.run)),
        steps=args.steps,
        batch=args.batch,
        recipe=Recipe,
        rate=args.rate,
        seed=args.seed,
        schedule=warmup_decay(args.steps, warmup=200, decay=args.decay),
        device=args.device,
    )
    for _ in tqdm(steps, total=args.steps, desc="photo", mininterval=10):
        pass


def _bank(root: Path, run: Path) -> list[np.ndarray]:
    """The reduced photographs and their halves, read once and kept beside the run."""
    path = run / "bank.npz"
    if not path.exists():
        bank = [reduced(picture) for _, picture in tqdm(photographs(root), desc="reading photographs")]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, *bank)
    pictures = list(np.load(path).values())
    halves = [p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2].astype(np.float32) for p in pictures]
    means = [h.reshape(h.shape[0] // 2, 2, h.shape[1] // 2, 2, 3).mean((1, 3)).round().astype(np.uint8) for h in halves]
    return [*pictures, *means]


if __name__ == "__main__":
    main()
