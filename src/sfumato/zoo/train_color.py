"""Trains a guider that colors grey pictures: `python -m sfumato.zoo.train_color --root ROOT --run RUN`.

ROOT holds the unpacked packages that `sfumato.data.photographs` names. The prior, `photo` unless --prior names another,
stays frozen, and its weights go into RUN, so that `sfumato restore grey.png --operator colorize --model RUN` needs
nothing else. The run continues from its last checkpoint, bit for bit. Crops are cut from photographs reduced once more:
what a thing is is seen from afar.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from sfumato.data.crops import Crops
from sfumato.data.photographs import photographs, reduced
from sfumato.recipes.piggyback_color import Recipe
from sfumato.training import warmup_decay
from sfumato.training.runs import run
from sfumato.zoo.model import load

LEVELS = {"mean": 0.3, "std": 1.5}  # of log sigma: colors are decided where the noise is high


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--prior", default="photo", help="a shipped name, or a folder, of the recipe edm")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32, help="side of the crops")
    parser.add_argument("--reduce", type=int, default=4, help="by how much the photographs are reduced further")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)  # the first weights

    prior = load(args.prior)
    recipe = Recipe(**{**prior.config["fields"], "widths": tuple(prior.config["fields"]["widths"]), **LEVELS})
    denoiser = recipe.model()
    denoiser.net.frozen.load_state_dict(prior.denoiser.net.state_dict())  # type: ignore[union-attr, operator]
    small = [
        np.array(Image.fromarray(picture).reduce(args.reduce))
        for picture in tqdm((reduced(p) for _, p in photographs(args.root)), desc="reading photographs", mininterval=10)
    ]
    steps = run(
        args.run,
        {"recipe": "piggyback-color", "fields": dataclasses.asdict(recipe)},
        recipe.objective(denoiser),
        recipe.data(Crops(small, args.size)),
        steps=args.steps,
        batch=args.batch,
        recipe=Recipe,
        schedule=warmup_decay(args.steps, warmup=50, decay=0.5),
        ema_decay=0.99,
        device=args.device,
    )
    for _ in tqdm(steps, total=args.steps, desc="color", mininterval=10):
        pass


if __name__ == "__main__":
    main()
