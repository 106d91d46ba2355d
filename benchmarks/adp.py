"""Purification of attacked pictures of Fashion-MNIST with the shipped model as score, against adversarial training.

    python benchmarks/adp.py --root ROOT --out build/adp.json

Trains a small classifier for one epoch of 20,000 pictures, and for each radius another on the pictures that FGSM from a
random start makes of each batch (Wong et al. 2020, 2001.03994: twice the gradients), and attacks both within the radius
of test pictures: FGSM, PGD of 20 moves. The plain one is then read behind ADP, whose attackers ignore the purifier (the
two above), or take it for the identity in the backward pass and average over its draws (BPDA + EOT). Accuracies have
Wilson's 95 % intervals. Radii are those at which the undefended classifier falls: at 8/255, CIFAR-10's, it keeps 0.8 of
these pictures of one object on black, so nothing is there to be defended. The cost of the two defences is told in
seconds: training on attacks beside plain training and one answer for each picture. An attack with the whole gradient
through the purifier is not run: its figure would be lower still.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fashion import Classifier, train
from shared import keep, options, show, write
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import sfumato
from sfumato import Measurement, Noise
from sfumato.data.labelled import Labelled, fashion_mnist
from sfumato.metrics import classifier_gradient, linf_attack, through, wilson
from sfumato.operators import Identity
from sfumato.solvers import ADP

BOX = {"low": -1.0, "high": 1.0}


def fgsm(net: Classifier, x: Tensor, labels: Tensor, eps: float) -> Tensor:
    """One step."""
    return linf_attack(classifier_gradient(net), x, labels, eps, steps=1, size=eps, **BOX)


def pgd(net: Classifier, x: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Twenty, from a random start."""
    return linf_attack(classifier_gradient(net), x, labels, eps, steps=20, size=eps / 4, start=Noise(2), **BOX)


ATTACKS = {"fgsm": fgsm, "pgd": pgd}


def adversarial(data: Labelled, eps: float, *, batch: int = 128) -> Classifier:
    """One epoch on FGSM from a random start, with a step of 1.25 eps."""
    torch.manual_seed(0)  # the first weights
    noise, net = Noise(0), Classifier()
    steps = len(data) // batch
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    gradient = classifier_gradient(net)
    for items in tqdm(noise.permutation(len(data))[: steps * batch].reshape(-1, batch), desc="adversarial"):
        x, label = data.batch(items.tolist(), None)  # type: ignore[arg-type]  # nothing is drawn
        x = linf_attack(gradient, x, label, eps, steps=1, size=1.25 * eps, start=noise, **BOX)
        loss = F.cross_entropy(net(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def main() -> None:
    """Parses the command line, trains, attacks, purifies, writes."""
    parser = options(__doc__)
    parser.add_argument("--train", type=int, default=20_000, help="pictures that the classifiers are trained on")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--purify", type=int, default=5, help="steps of ADP")
    parser.add_argument("--rate", type=float, default=0.2, help="lambda of ADP")
    parser.add_argument("--noise", type=float, default=0.25, help="sigma of ADP, of the unit interval")
    parser.add_argument("--moves", type=int, default=10, help="of BPDA + EOT")
    parser.add_argument("--eot", type=int, default=2, help="draws of each move")
    parser.add_argument("--draws", type=int, default=3, help="of each answer")
    parser.add_argument("--eps", type=float, nargs="+", default=[16.0, 32.0], help="radii, in 255ths of the interval")
    args = parser.parse_args()
    data, test = fashion_mnist(args.root), fashion_mnist(args.root, train=False)
    data.images, data.labels = data.images[: args.train], data.labels[: args.train]
    x, labels = test.batch(list(range(0, len(test), len(test) // args.images))[: args.images], None)  # type: ignore[arg-type]
    seconds: dict[str, float] = {}
    plain = timed(seconds, "plain training", lambda: train(data, epochs=1))
    denoiser = sfumato.load("fashion").denoiser
    defence, noise = ADP(args.purify, args.noise, args.rate), Noise(1)

    def purify(y: Tensor) -> Tensor:
        return torch.cat([defence(denoiser, Measurement(Identity(), rows, 0.0), noise) for rows in y.split(50)])

    def behind(y: Tensor) -> Tensor:
        return torch.stack([torch.softmax(plain(purify(y)), 1) for _ in range(args.draws)]).mean(0)

    def accuracy(answer: Callable[[Tensor], Tensor], y: Tensor) -> list[float]:
        right = int((answer(y).argmax(1) == labels).sum())
        return [round(v, 3) for v in (right / len(x), *wilson(right, len(x)))]

    table: dict[str, dict[str, dict[str, list[float]]]] = {}
    clean = {
        "undefended": accuracy(plain, x),
        "adp": timed(seconds, "purified answers", lambda: accuracy(behind, x)),
    }
    for radius in args.eps:
        eps = 2 * radius / 255  # in model space, [-1, 1]
        robust = timed(seconds, f"training on attacks of {radius:g}/255", partial(adversarial, data, eps))
        hers, blind = ({n: a(net, x, labels, eps) for n, a in ATTACKS.items()} for net in (robust, plain))
        adaptive = through(purify, classifier_gradient(plain), args.eot)
        strong = linf_attack(adaptive, x, labels, eps, steps=args.moves, size=eps / 4, **BOX)
        table[f"{radius:g}"] = {
            "undefended": {"clean": clean["undefended"], **{k: accuracy(plain, y) for k, y in blind.items()}},
            "adversarial_training": {"clean": accuracy(robust, x), **{k: accuracy(robust, y) for k, y in hers.items()}},
            "adp": {
                "clean": clean["adp"],
                **{k: accuracy(behind, y) for k, y in {**blind, "bpda_eot": strong}.items()},
            },
        }
    result = {
        "images": len(x),
        "adp": repr(defence),
        "eot": [args.moves, args.eot],
        "draws": args.draws,
        "seconds": seconds,
        "accuracy_low_high": table,
    }
    write(args, result)
    words = "; ".join([*(_sentence(radius, rows) for radius, rows in table.items()), _cost(seconds, len(x))])
    keep(args, "adp", f"Fashion-MNIST, {len(x)} test pictures; the shipped model as score, {args.purify} steps", words)
    if args.picture is not None:
        m = Measurement(Identity(), strong[:10], 0.0)
        start = defence.start(denoiser, m, defence.times(denoiser.process)[0], Noise(3))  # type: ignore[arg-type]
        rows = torch.stack([x[:10], strong[:10], start, defence(denoiser, m, Noise(3))])
        show(args.picture, rows[:, :, 0], 3)


def timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """What `work` gives, its seconds of the processor noted under `name`."""
    began = time.process_time()
    result = work()
    seconds[name] = round(time.process_time() - began, 1)
    return result


def _cost(seconds: dict[str, float], images: int) -> str:
    """What the two defences cost, in seconds of the processor."""
    more = [seconds[name] - seconds["plain training"] for name in seconds if name.startswith("training on")]
    once, each, plain = sum(more) / len(more), seconds["purified answers"] / images, seconds["plain training"]
    return (
        f"training on attacks costs {once:.0f} s more than the {plain:.0f} s of plain training, once; "
        f"purifying costs {each:.2f} s a picture, so {once / each:.0f} answers cost as much"
    )


def _sentence(radius: str, rows: dict[str, dict[str, list[float]]]) -> str:
    def said(name: str, attack: str) -> str:
        share, low, high = rows[name][attack]
        return f"{share:.2f} [{low:.2f}, {high:.2f}]"

    worst = {name: min(row.values()) for name, row in rows.items()}
    ours, theirs = worst["adp"], worst["adversarial_training"]
    verdict = "the intervals overlap"
    if ours[1] > theirs[2] or theirs[1] > ours[2]:
        verdict = f"{'purification' if ours > theirs else 'adversarial training'} keeps more"
    return (
        f"at {radius}/255 undefended clean {said('undefended', 'clean')}, FGSM {said('undefended', 'fgsm')}, "
        f"PGD {said('undefended', 'pgd')}; purified clean {said('adp', 'clean')}, FGSM {said('adp', 'fgsm')}, "
        f"PGD {said('adp', 'pgd')}, BPDA + EOT {said('adp', 'bpda_eot')}; adversarial training clean "
        f"{said('adversarial_training', 'clean')}, FGSM {said('adversarial_training', 'fgsm')}, PGD "
        f"{said('adversarial_training', 'pgd')}: under the worst "
        f"attack {verdict}"
    )


if __name__ == "__main__":
    main()
