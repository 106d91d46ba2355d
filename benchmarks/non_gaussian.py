"""Gamma against normal noise at few steps on digits: the same small network, the same number of training steps.

    python benchmarks/non_gaussian.py --root ROOT --out build/non_gaussian.json

For each kind of noise trains `non-gaussian` on 4,500 digits of MNIST, halved to 14 x 14, and reports the Frechet
distance of 500 samples to the training pictures, at 10, 20 and 50 steps of DDIM, in the penultimate features of a small
classifier of digits, which sees them doubled; for scale, that of 500 test pictures. One training run each, from the
same weights: the difference of two runs of one kind is not measured.
"""

from __future__ import annotations

import torch
from fashion import seen, train
from shared import Rows, halved, options, show, write
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from sfumato import Noise
from sfumato.data.labelled import mnist_5k
from sfumato.denoisers import Clipped
from sfumato.metrics import frechet
from sfumato.recipes import load
from sfumato.samplers import sample
from sfumato.training import Ema, fit, warmup_decay


def main() -> None:
    """Parses the command line, trains, samples, compares, writes."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=600, help="of training, each")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--kinds", nargs="+", default=["normal", "gamma"])
    args = parser.parse_args()
    data, test = mnist_5k(args.root), mnist_5k(args.root, train=False)
    images, held = halved(data), halved(test)
    net = train(data, epochs=4)

    def features(x: Tensor) -> Tensor:
        return seen(net, F.interpolate(x, scale_factor=2))[1]

    rest = features(images)
    table, shown = {}, []
    for kind in args.kinds:
        torch.manual_seed(0)  # the first weights
        fields = {"channels": 1, "widths": (16, 32), "blocks": 1, "attention": (1,), "dropout": 0.0}
        recipe = load("non-gaussian").Recipe(noise=kind, **fields)
        objective = recipe.objective(recipe.model())
        optimizer, ema = torch.optim.AdamW(objective.parameters(), 2e-3, weight_decay=0.01), Ema(objective, 0.998)
        runs = fit(
            objective,
            Rows(images),
            optimizer,
            steps=args.steps,
            batch=64,
            ema=ema,
            schedule=warmup_decay(args.steps),
        )
        for _ in tqdm(runs, total=args.steps, desc=kind):
            pass
        denoiser = Clipped(ema.average.eval().denoiser)
        table[kind] = {}
        for steps in (10, 20, 50):
            drawn = torch.cat(
                [
                    sample(denoiser, recipe.sampler(), shape=(50, 1, 14, 14), times=recipe.times(steps), noise=Noise(i))
                    for i in tqdm(range(args.samples // 50), desc=f"{kind}, {steps} steps")
                ]
            )
            table[kind][str(steps)] = round(frechet(features(drawn), rest), 2)
        shown.append(drawn[:20])
    result = {
        "training_steps": args.steps,
        "samples": args.samples,
        "frechet_by_steps": table,
        "frechet_real": round(frechet(features(held), rest), 2),
    }
    write(args, result)
    show(args.picture, torch.stack(shown)[:, :, 0], 4)


if __name__ == "__main__":
    main()
