"""ADIR's adaptation to one picture, and its gain: enlargement by 4 of photo12 with the shipped prior.

    python benchmarks/adir.py --root ROOT --out build/adir.json

Each picture's middle is reduced by 4, noise of 0.02 is added, and it is enlarged by the default solver: with the prior
as it is; with all its weights adapted to the K crops of the training photographs nearest to y (|y - A x|); and adapted
to A^+ y alone, the paper's weaker choice. Gain in PSNR, its mean and standard error. The number of updates is far
below the paper's hundreds, and the prior is small and has seen these photographs already. Of the rates between 1e-5 and
1e-4 the lower is taken: at 1e-4 one update alone lost 1.6 dB on the first two pictures. Nothing else was tried on them.
"""

from __future__ import annotations

import numpy as np
import torch
from shared import gained, keep, options, sheet, write
from torch import Tensor
from tqdm import tqdm

import sfumato
from sfumato import Measurement, Noise, Seeds, metrics
from sfumato.data.crops import Crops
from sfumato.data.photo12 import SIDE, photo12
from sfumato.data.photographs import photographs, reduced
from sfumato.operators import Downsample
from sfumato.solvers import ADIR
from sfumato.zoo import defaults


def main() -> None:
    """Parses the command line, adapts, enlarges, scores."""
    parser = options(__doc__)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument(
        "--crops", type=int, default=4000, help="of the training photographs, to choose neighbours from"
    )
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--updates", type=int, default=25)
    parser.add_argument("--lr", type=float, default=1e-5)
    args = parser.parse_args()
    model, first = sfumato.load("photo"), (SIDE - args.side) // 2
    bank = Crops([np.array(reduced(p)) for _, p in tqdm(photographs(args.root), mininterval=10)], args.side)
    items = torch.linspace(0, len(bank) - 1, args.crops).long().tolist()
    images, _ = bank.batch(items, Seeds(range(args.crops)))
    scores: dict[str, list[float]] = {"bicubic": [], "as it is": [], "neighbours": [], "itself": []}
    cells: list[list[Tensor]] = []
    for name, picture in tqdm(list(photo12(args.root))[: args.pictures]):
        x = picture[None, :, first : first + args.side, first : first + args.side]
        m = Measurement.simulate(Downsample(4), x, sigma=0.02, noise=Noise(0))
        base, _ = defaults.solver(m.to_model(model.codec))
        settings = {"solver": base, "neighbours": args.neighbours, "updates": args.updates, "lr": args.lr}
        ways = {"as it is": base, "neighbours": ADIR(images=images, **settings), "itself": ADIR(**settings)}
        answers = {"bicubic": torch.nn.functional.interpolate(m.y, scale_factor=4, mode="bicubic")}
        answers |= {key: model.restore(m, solver=solver, seed=0).mean for key, solver in ways.items()}
        for key, answer in answers.items():
            scores[key].append(float(metrics.psnr(answer.clamp(0, 1), x)))
        cells.append([x[0], *(answer[0] for answer in answers.values())])
        print(name, {key: round(values[-1], 2) for key, values in scores.items()}, flush=True)
    psnr = {key: torch.tensor(values) for key, values in scores.items()}
    gains = {key: gained(psnr[key] - psnr["as it is"]) for key in ("neighbours", "itself")}
    write(args, {"means": {k: float(v.mean()) for k, v in psnr.items()}, "gains": gains, "psnr": scores})
    keep(
        args,
        "adir",
        f"{args.pictures} crops of photo12, {args.side} x {args.side}, enlarged by 4, noise 0.02; the shipped model, "
        f"{args.updates} updates of all weights",
        f"gain in PSNR {gains['neighbours']} dB (standard error) adapted to the {args.neighbours} nearest of "
        f"{args.crops} training crops, {gains['itself']} adapted to A^+ y alone; without "
        f"{float(psnr['as it is'].mean()):.2f} dB, bicubic {float(psnr['bicubic'].mean()):.2f}",
    )
    sheet(args.picture, [list(row) for row in zip(*cells, strict=True)], 2)


if __name__ == "__main__":
    main()
