"""Trains the shipped `series` model: `python -m sfumato.zoo.train_series --root ROOT --run RUN`.

ROOT holds the packages that `sfumato.data.series_sets` names. Of each set the first 80 % (of the motions the training
half, of the winds the first 96 months of one cell in 31) are trained on, gaps of carbon dioxide filled by straight
lines; every second window is made (`AnySeries`). The run continues from its last checkpoint, bit for bit;
`sf.load(RUN).save(FOLDER)` makes a model of it.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sfumato.data import series_sets
from sfumato.data.any_series import AnySeries
from sfumato.recipes.kernel_mixture import Recipe
from sfumato.training import warmup_decay
from sfumato.training.runs import run

LENGTH = 96  # of the windows trained on
SIZE = 256  # rows that a table is looked back on
RECIPE = Recipe()
FITTING = (4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 30, 36, 48)  # periods that fit into such a window, some left out


def groups(root: Path) -> list[list[Tensor]]:
    """What is trained on, one group for each set, single series (L,)."""
    demand, temperatures, co2 = series_sets.demand(root), series_sets.temperatures(root), series_sets.co2(root)
    early = [one.values[:, : round(0.8 * len(one))] for one in (demand, temperatures, co2)]
    hourly = early[0].unflatten(1, (-1, 2)).mean(2)
    return [
        [*early[0], *hourly],
        list(early[1]),
        [_bridged(row) for row in early[2]],
        [row for cell in series_sets.winds(root, 31) for row in cell.values[:, :96]],
        [row for one in series_sets.motions(root) for row in one.values],
    ]


def _bridged(row: Tensor) -> Tensor:
    """Gaps filled by straight lines."""
    known = torch.nonzero(~row.isnan())[:, 0]
    return torch.from_numpy(np.interp(np.arange(len(row)), known.numpy(), row[known].numpy()))


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = {
        "recipe": "kernel-mixture",
        "fields": dataclasses.asdict(RECIPE),
        "event": [1, None],
        "size": SIZE,
        "codec": {"kind": "affine", "scale": 1.0, "shift": 0.0},
    }
    steps = run(
        args.run,
        config,
        RECIPE.objective(dataclasses.replace(RECIPE, periods=FITTING).model()),  # no weight is of one period
        AnySeries(groups(args.root), LENGTH, whole=True),
        steps=args.steps,
        batch=args.batch,
        recipe=Recipe,
        rate=5e-2,
        schedule=warmup_decay(args.steps, warmup=20, decay=0.5),
        ema_decay=0.9,
        every=20,
        device=args.device,
    )
    for _ in tqdm(steps, total=args.steps, desc="series", mininterval=10):
        pass


if __name__ == "__main__":
    main()
