"""D3PM on Fashion-MNIST, 14 x 14 at 16 levels: bits per dimension of three chains, beside what counts and xz reach.

    python benchmarks/d3pm.py --root ROOT --steps 800

Trains a small U-Net for each transition (Gaussian with logistic outputs, uniform, absorbing) on the 60,000 training
images, each the mean of 2 x 2 pixels, and computes the bound over all N steps on the first test images. Beside it: the
same images under counts of each level given its four neighbours that are already known (mixed with fewer neighbours
where counts are few), which is what a simple lossless coder of pictures does, and under xz. Writes
benchmarks/data/figures/d3pm.json and docs/pictures/d3pm.png.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sfumato.codecs import Quantized
from sfumato.data.images import write_image
from sfumato.data.labelled import fashion_mnist
from sfumato.noise import Noise, Seeds
from sfumato.recipes import d3pm
from sfumato.samplers import sample
from sfumato.training import Data, Ema, fit, warmup_decay

HERE = Path(__file__).parent
LEVELS = 16
NET = {"channels": 1, "levels": LEVELS, "widths": (32, 64), "blocks": 1, "attention": (), "dropout": 0.0}
CHAINS = {
    "gaussian": {"first": 1e-3, "last": 0.2},  # ten times the betas for a tenth of the steps
    "uniform": {"logistic": False},
    "absorbing": {"logistic": False},
}


class Small:
    """Images of half the side as levels, all in memory: (N, 1, 14, 14) int64."""

    def __init__(self, root: Path, *, train: bool) -> None:
        images = fashion_mnist(root, train=train).images.float() / 255
        self.x = Quantized(LEVELS).encode(torch.nn.functional.avg_pool2d(images, 2))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None) of these items; nothing is drawn."""
        return self.x[items], None


def counted(train: Tensor, test: Tensor, strength: float = 2.0) -> float:
    """Bits per dimension under p(level | left, above, above left, above right), each law of fewer neighbours in turn
    being the prior, worth `strength` counts, of the next.
    """

    def contexts(x: Tensor) -> list[np.ndarray]:
        padded = np.pad(x[:, 0].numpy(), ((0, 0), (1, 0), (1, 1)))
        above, left = padded[:, :-1], padded[:, 1:, :-2]
        return [left, above[:, :, 1:-1], above[:, :, :-2], above[:, :, 2:]]

    law = np.full((1, LEVELS), 1 / LEVELS)
    keys = [np.zeros(x[:, 0].shape, np.int64) for x in (train, test)]
    for depth in range(5):
        if depth:
            keys = [key * LEVELS + contexts(x)[depth - 1] for key, x in zip(keys, (train, test), strict=True)]
            law = np.repeat(law, LEVELS, 0)
        cells = keys[0] * LEVELS + train[:, 0].numpy()
        counts = np.bincount(cells.ravel(), minlength=law.size).reshape(law.shape)
        law = (counts + strength * law) / (counts.sum(1, keepdims=True) + strength)
    return float(-np.log2(law[keys[1], test[:, 0].numpy()]).mean())


def trained(recipe: Any, data: Data, steps: int, batch: int) -> torch.nn.Module:
    """The averaged denoiser after `steps` steps of Adam at 0.001 (falling at the end)."""
    torch.manual_seed(0)  # the first weights
    objective = recipe.objective(recipe.model())
    optimizer = torch.optim.Adam(objective.parameters(), 1e-3)
    ema = Ema(objective, 0.995)
    with tqdm(total=steps, desc=getattr(recipe, "transition", "ardm"), mininterval=10) as bar:
        average = math.nan
        for step in fit(objective, data, optimizer, steps=steps, batch=batch, ema=ema, schedule=warmup_decay(steps)):
            average = step.loss if math.isnan(average) else 0.99 * average + 0.01 * step.loss
            bar.update()
            bar.set_postfix(loss=f"{average:.3f}", refresh=False)
    return ema.average.denoiser


def keep(key: str, result: dict[str, Any], rows: list[Tensor]) -> None:
    """Writes the figure of a method, and rows of pictures in [0, 1], four times as large, as its picture."""
    sheet = torch.cat(rows).repeat_interleave(4, 0).repeat_interleave(4, 1)
    picture, figure = HERE.parent / "docs" / "pictures" / f"{key}.png", HERE / "data" / "figures" / f"{key}.json"
    for path in (picture, figure):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_image(picture, sheet.unsqueeze(0).float())
    figure.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


def main() -> None:
    """Parses the command line, trains, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--steps", type=int, default=800, help="of training, for each chain")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--chain", type=int, default=100, help="N")
    parser.add_argument("--images", type=int, default=200, help="test images of the bound")
    args = parser.parse_args()

    began = time.perf_counter()
    data, test = Small(args.root, train=True), Small(args.root, train=False).x[: args.images]
    context = counted(data.x, test)
    both = len(lzma.compress(torch.cat([data.x, test]).byte().numpy().tobytes(), preset=6))
    xz = 8 * (both - len(lzma.compress(data.x.byte().numpy().tobytes(), preset=6))) / test.numel()
    print(f"counts of four neighbours {context:.3f}, xz {xz:.3f} bits/dim", flush=True)
    figures, rows = {}, []
    for transition, fields in CHAINS.items():
        recipe = d3pm.Recipe(transition=transition, steps=args.chain, **NET, **fields)
        denoiser = trained(recipe, data, args.steps, args.batch)
        with torch.no_grad():
            bits = torch.cat([recipe.bound(denoiser, x, Noise(1)).bits(196) for x in test.split(100)])
        figures[transition] = f"{float(bits.mean()):.3f}"
        print(transition, figures[transition], f"+- {float(bits.std()) / len(bits) ** 0.5:.3f}", flush=True)
        drawn = sample(denoiser, recipe.sampler(), shape=(16, 1, 14, 14), times=recipe.times(), noise=Seeds(range(16)))
        rows.append(torch.cat(list(Quantized(LEVELS).decode(drawn)[:, 0]), 1))
    rows.append(torch.cat(list(Quantized(LEVELS).decode(test[:16])[:, 0]), 1))
    result = {
        "data": f"Fashion-MNIST, 14 x 14 at {LEVELS} levels; {len(test)} test images",
        "figure": ", ".join(f"{key} {value}" for key, value in figures.items())
        + f" bits/dim (bounds, N = {args.chain}); counts of four neighbours {context:.3f}, xz {xz:.3f}",
        "command": f"python benchmarks/d3pm.py --root ROOT --steps {args.steps}",
        "minutes": round((time.perf_counter() - began) / 60),
    }
    keep("d3pm", result, rows)


if __name__ == "__main__":
    main()
