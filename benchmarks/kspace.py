"""Random columns of the k-space of photographs, completed with the photo model: a scanner's problem on pictures.

    python benchmarks/kspace.py --root ROOT --out build/kspace.json

One of --acceleration columns is seen, the middle ones always, without noise, in squares of photo12. Compared are what
was seen alone (A^+ y), DDNM and score-medical with its settings for magnetic resonance. No scan is used: the shipped
models know none. PSNR, mean over pictures, and the standard error of score-medical's gain over each of the others.
"""

from __future__ import annotations

import math

import torch
from shared import options, write
from tqdm import tqdm

import sfumato
from sfumato import Measurement, metrics
from sfumato.data.photo12 import SIDE, photo12
from sfumato.operators import Fourier, kspace
from sfumato.solvers import DDNM, ScoreMedical


def main() -> None:
    """Parses the command line, measures, reconstructs, scores."""
    parser = options(__doc__)
    parser.add_argument("--acceleration", type=float, default=3.0)
    parser.add_argument("--centre", type=float, default=0.12)
    parser.add_argument("--steps", type=int, default=50, help="of score-medical; DDNM has twice as many, as many calls")
    parser.add_argument("--side", type=int, default=64)
    args = parser.parse_args()
    model, rows = sfumato.load("photo"), {}
    size, first = (args.side, args.side), (SIDE - args.side) // 2
    mask = kspace.columns(size, sfumato.Noise(0), acceleration=args.acceleration, centre=args.centre)
    A = Fourier(mask)
    for name, x in tqdm(photo12(args.root), total=12):
        x = x[None, :, first : first + args.side, first : first + args.side]
        m = Measurement.simulate(A, x, sigma=0.0, noise=sfumato.Noise(1))
        answers = {"seen": A.pinv(m.y)}
        for key, solver in (("ddnm", DDNM(2 * args.steps)), ("score-medical", ScoreMedical.mri(args.steps))):
            answers[key] = model.restore(m, solver=solver, seed=0).mean
        rows[name] = {key: float(metrics.psnr(answer.clamp(0, 1), x)) for key, answer in answers.items()}
    scores = torch.tensor([list(row.values()) for row in rows.values()])
    means = dict(zip(answers, scores.mean(0).tolist(), strict=True))
    errors = ((scores[:, 2:] - scores[:, :2]).std(0) / math.sqrt(len(scores))).tolist()
    write(args, {"columns": int(mask[0].sum()), "psnr": means, "gain_errors": errors, "rows": rows})


if __name__ == "__main__":
    main()
