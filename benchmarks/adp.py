"""Purification of attacked pictures of Fashion-MNIST with the shipped model as score, against adversarial training.

    python benchmarks/adp.py --root ROOT --out build/adp.json

Trains two small classifiers for one epoch of 20,000 pictures, one of them on the pictures that FGSM from a random
start makes of each batch (Wong et al. 2020, 2001.03994: twice the gradients), and attacks both within --eps of test
pictures: FGSM, PGD. The plain one is then read behind ADP, whose attackers ignore the purifier (the two above), or
take it for the identity in the backward pass and average over its draws (BPDA + EOT). Accuracies have Wilson's 95 %
intervals. An attack with the whole gradient through the purifier is not run: its figure would be lower still.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from fashion import Classifier, train
from shared import options, show, write
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
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--purify", type=int, default=5, help="steps of ADP")
    parser.add_argument("--rate", type=float, default=0.2, help="lambda of ADP")
    parser.add_argument("--noise", type=float, default=0.25, help="sigma of ADP, of the unit interval")
    parser.add_argument("--moves", type=int, default=10, help="of BPDA + EOT")
    parser.add_argument("--eot", type=int, default=2, help="draws of each move")
    parser.add_argument("--draws", type=int, default=3, help="of each answer")
    parser.add_argument("--eps", type=float, default=8.0, help="radius of the attacks, in 255ths of the unit interval")
    args = parser.parse_args()
    eps = 2 * args.eps / 255  # in model space, [-1, 1]
    data, test = fashion_mnist(args.root), fashion_mnist(args.root, train=False)
    data.images, data.labels = data.images[: args.train], data.labels[: args.train]
    x, labels = test.batch(list(range(0, len(test), len(test) // args.images))[: args.images], None)  # type: ignore[arg-type]
    plain, robust = train(data, epochs=1), adversarial(data, eps)
    denoiser = sfumato.load("fashion").denoiser
    defence, noise = ADP(args.purify, args.noise, args.rate), Noise(1)

    def purify(y: Tensor) -> Tensor:
        return torch.cat([defence(denoiser, Measurement(Identity(), rows, 0.0), noise) for rows in y.split(50)])

    def behind(y: Tensor) -> Tensor:
        return torch.stack([torch.softmax(plain(purify(y)), 1) for _ in range(args.draws)]).mean(0)

    def pgd(net: Classifier, steps: int, size: float) -> Tensor:
        start = Noise(2) if steps > 1 else None
        return linf_attack(classifier_gradient(net), x, labels, eps, steps=steps, size=size, start=start, **BOX)

    blind, hers = ({"clean": x, "fgsm": pgd(n, 1, eps), "pgd": pgd(n, 20, eps / 4)} for n in (plain, robust))
    adaptive = through(purify, classifier_gradient(plain), args.eot)
    strong = linf_attack(adaptive, x, labels, eps, steps=args.moves, size=eps / 4, **BOX)
    table: dict[str, dict[str, list[float]]] = {}

    def row(name: str, answer: Callable[[Tensor], Tensor], attacked: dict[str, Tensor]) -> None:
        table[name] = {}
        for attack, y in attacked.items():
            right = int((answer(y).argmax(1) == labels).sum())
            table[name][attack] = [round(v, 3) for v in (right / len(x), *wilson(right, len(x)))]

    row("undefended", plain, blind)
    row("adversarial_training", robust, hers)
    row("adp", behind, {**blind, "bpda_eot": strong})
    result = {
        "eps_255": args.eps,
        "images": len(x),
        "adp": repr(defence),
        "eot": [args.moves, args.eot],
        "draws": args.draws,
        "accuracy_low_high": table,
    }
    write(args, result)
    if args.picture is not None:
        m = Measurement(Identity(), strong[:10], 0.0)
        start = defence.start(denoiser, m, defence.times(denoiser.process)[0], Noise(3))  # type: ignore[arg-type]
        rows = torch.stack([x[:10], strong[:10], start, defence(denoiser, m, Noise(3))])
        show(args.picture, rows[:, :, 0], 3)


if __name__ == "__main__":
    main()
