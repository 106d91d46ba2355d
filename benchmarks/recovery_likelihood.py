"""An energy of digits by recovery likelihood: does it tell garments from digits?

    python benchmarks/recovery_likelihood.py --root ROOT --out build/recovery_likelihood.json

Trains `recovery-likelihood` on 4,500 digits of MNIST, halved to 14 x 14, and reports the area under the ROC curve of
its log density at the first level, 500 other digits against 500 test pictures of Fashion-MNIST, uniform noise, and
digits whose pixels are shuffled; beside that of the most likely normal law (mean and covariance of the training
digits). Samples by its chains go into a picture.
"""

from __future__ import annotations

import torch
from shared import Rows, halved, options, show, write
from tqdm import tqdm

from sfumato import Noise
from sfumato.data.labelled import fashion_mnist, mnist_5k
from sfumato.metrics import auroc
from sfumato.recipes import load
from sfumato.samplers import sample
from sfumato.training import Ema, fit, warmup_decay


def main() -> None:
    """Parses the command line, trains, scores, samples, writes."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=700, help="of training")
    parser.add_argument("--moves", type=int, default=10, help="K of a chain")
    args = parser.parse_args()
    digits, held = (halved(mnist_5k(args.root, train=k)) for k in (True, False))
    order = Noise(5).permutation(14 * 14)
    outside = {
        "fashion": halved(fashion_mnist(args.root, train=False), 500),
        "uniform": 2 * Noise(6).uniform(held) - 1,
        "shuffled": held.flatten(2)[..., order].reshape(held.shape),
    }
    torch.manual_seed(0)  # the first weights
    recipe = load("recovery-likelihood").Recipe(
        channels=1, widths=(16, 32), blocks=1, stride=2, moves=args.moves, b2=2e-4 * 30 / args.moves
    )
    objective = recipe.objective(recipe.model())
    optimizer, ema = torch.optim.Adam(objective.parameters(), 5e-4), Ema(objective, 0.995)
    with tqdm(total=args.steps, desc="train") as bar:
        for step in fit(
            objective, Rows(digits), optimizer, steps=args.steps, batch=32, ema=ema, schedule=warmup_decay(args.steps)
        ):
            bar.update(1)
            bar.set_postfix(gap=f"{step.loss:.3f}", norm=f"{step.norm:.2f}", refresh=False)
    energy = ema.average.eval().denoiser
    first = recipe.times()[-1]
    flat = digits.flatten(1).double()
    cov = torch.cov(flat.T) + 0.01 * torch.eye(flat.shape[1], dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(flat.mean(0), cov)
    with torch.no_grad():
        inside, plain = energy.log_density(held, first), law.log_prob(held.flatten(1).double())
        scores = {k: round(auroc(inside, energy.log_density(v, first)), 4) for k, v in outside.items()}
    normal = {k: round(auroc(plain, law.log_prob(v.flatten(1).double())), 4) for k, v in outside.items()}
    drawn = sample(energy, recipe.sampler(), shape=(40, 1, 14, 14), times=recipe.times(), noise=Noise(0))
    result = {
        "training_steps": args.steps,
        "moves": args.moves,
        "auroc": scores,
        "auroc_normal_law": normal,
        "sample_range": [round(float(drawn.min()), 2), round(float(drawn.max()), 2)],
    }
    write(args, result)
    show(args.picture, drawn.reshape(2, 20, 14, 14), 4)


if __name__ == "__main__":
    main()
