"""Bits of digits: the binomial chain of Sohl-Dickstein et al. against independent pixels and a mixture of Bernoullis.

    python benchmarks/nonequilibrium.py --root ROOT --out build/nonequilibrium.json

Trains `nonequilibrium` with binomial kernels on 4,500 digits of MNIST, halved to 14 x 14, black where the grey level
is below a half, and reports bits per dimension of 500 others: an upper bound for the chain, with its standard error
over pictures; exact for the baselines, whose smoothing and number of components are the best on 500 of the training
pictures. Draws samples, and the lower halves of test pictures given the upper ones by multiplication with a second
distribution, into one picture.
"""

from __future__ import annotations

import math

import torch
from shared import Rows, halved, options, show, write
from torch import Tensor
from tqdm import tqdm

from sfumato import Noise
from sfumato.data.labelled import mnist_5k
from sfumato.recipes import load
from sfumato.samplers import sample
from sfumato.training import Ema, fit, warmup_decay


def mixture_bits(train: Tensor, test: Tensor, components: int, smoothing: float, rounds: int = 40) -> float:
    """Bits per dimension of `test` under a mixture of Bernoullis fitted to `train` by expectation maximisation."""
    ones = (train.flatten(1) + 1) / 2
    start = ones[Noise(0).permutation(len(ones))[:components]]
    means, weights = 0.5 * start + 0.25, torch.ones(components)
    for _ in range(rounds if components > 1 else 1):
        share = torch.softmax(logs(ones, means, weights), 1)
        count = share.sum(0)
        weights = count + 1.0
        means = (share.T @ ones + smoothing) / (count[:, None] + 2 * smoothing)
    log_prob = torch.logsumexp(logs((test.flatten(1) + 1) / 2, means, weights), 1)
    return float(-log_prob.mean()) / (ones.shape[1] * math.log(2))


def logs(ones: Tensor, means: Tensor, weights: Tensor) -> Tensor:
    """log weight_k p_k(x), (n, K)."""
    return ones @ means.log().T + (1 - ones) @ (-means).log1p().T + (weights / weights.sum()).log()


def main() -> None:
    """Parses the command line, trains, measures, draws, writes."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=1200, help="of training")
    parser.add_argument("--levels", type=int, default=100, help="N of the chain")
    parser.add_argument("--draws", type=int, default=40, help="of x_n for each test picture")
    args = parser.parse_args()
    train, test = (torch.where(halved(mnist_5k(args.root, train=k)) >= 0, 1.0, -1.0) for k in (True, False))

    order = Noise(1).permutation(len(train))
    part, held = train[order[:-500]], train[order[-500:]]
    choices = [(k, a) for k in (1, 30, 100, 300) for a in (0.1, 0.3)]
    best = min((c for c in choices if c[0] > 1), key=lambda c: mixture_bits(part, held, *c))
    flat = min((c for c in choices if c[0] == 1), key=lambda c: mixture_bits(part, held, *c))

    torch.manual_seed(0)  # the first weights
    fields = {"channels": 1, "widths": (16, 32), "blocks": 1, "attention": (1,), "dropout": 0.1, "bumps": 0}
    recipe = load("nonequilibrium").Recipe.binomial(steps=args.levels, **fields)
    objective = recipe.objective(recipe.model())
    optimizer, ema = torch.optim.AdamW(objective.parameters(), 2e-3, weight_decay=0.01), Ema(objective, 0.998)
    with tqdm(total=args.steps, desc="train") as bar:
        for step in fit(
            objective, Rows(train), optimizer, steps=args.steps, batch=64, ema=ema, schedule=warmup_decay(args.steps)
        ):
            bar.update(1)
            bar.set_postfix(bits=f"{step.loss:.3f}", refresh=False)
    average = ema.average.eval()
    with torch.no_grad():
        bits = torch.stack([average(test, None, Noise(100 + i)) for i in tqdm(range(args.draws), desc="bound")])
    each = bits.mean(0)
    denoiser = average.denoiser
    drawn = sample(denoiser, recipe.sampler(), shape=(20, 1, 14, 14), times=recipe.times(), noise=Noise(0))
    result = {
        "levels": args.levels,
        "training_steps": args.steps,
        "chain_bits_per_dim": round(float(each.mean()), 4),
        "standard_error": round(float(each.std()) / math.sqrt(len(each)), 4),
        "mixture_bits_per_dim": round(mixture_bits(train, test, *best), 4),
        "mixture_components": best[0],
        "independent_bits_per_dim": round(mixture_bits(train, test, *flat), 4),
    }
    write(args, result)
    if args.picture is not None:
        truth = test[:: len(test) // 10][:10]
        mask = torch.zeros_like(truth)
        mask[..., :7, :] = 1.0
        sampler = recipe.sampler(recipe.known(mask, truth))
        prior = denoiser.process.prior(truth)
        filled = [
            sample(denoiser, sampler, x1=prior.sample(Noise(i)), times=recipe.times(), noise=Noise(10 + i))
            for i in (0, 1)
        ]
        seen = torch.where(mask > 0, truth, 0.0)
        rows = torch.stack([*drawn.reshape(2, 10, 14, 14), seen[:, 0], filled[0][:, 0], filled[1][:, 0], truth[:, 0]])
        show(args.picture, rows, 4)


if __name__ == "__main__":
    main()
