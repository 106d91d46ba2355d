"""A class-conditional model of Fashion-MNIST: are its samples what was asked for, and as varied as real images?

    python benchmarks/fashion.py --root ROOT --model fashion --out build/fashion.json

Trains a small classifier on the 60,000 training images (it must reach 90 % on the test images, minutes on one core),
then draws 100 samples of each class and reports
- the share that the classifier sees as the class asked for, beside that of 1,000 test images, 100 of each class;
- the Frechet distance of its penultimate features to those of the other 9,000 test images, of the samples and of the
  same 1,000 test images: equal numbers, so equal bias.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm, trange

import sfumato
from sfumato import Noise
from sfumato.data.labelled import Labelled, fashion_mnist
from sfumato.metrics import frechet

PER_CLASS = 100


class Classifier(nn.Module):
    """Two convolutions and two linear layers; 64 penultimate features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.hidden, self.out = nn.Linear(64 * 7 * 7, 64), nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """(B, 64) of images (B, 1, 28, 28) in [-1, 1]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))


def train(data: Labelled, *, epochs: int, batch: int = 128) -> Classifier:
    """A classifier of these images, the same for the same arguments."""
    torch.manual_seed(0)  # the first weights
    noise, net = Noise(0), Classifier()
    steps = epochs * (len(data) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    order = torch.cat([noise.permutation(len(data))[: len(data) // batch * batch] for _ in range(epochs)])
    for items in tqdm(order.reshape(-1, batch), desc="classifier"):
        x, label = data.batch(items.tolist(), None)  # type: ignore[arg-type]  # nothing is drawn
        if noise.uniform(torch.empty(())) < 0.5:
            x = x.flip(3)
        loss = F.cross_entropy(net(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def seen(net: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """(class, features) of every image, in batches."""
    features = torch.cat([net.features(rows) for rows in x.split(500)])
    return net.out(features).argmax(1), features


def main() -> None:
    """Parses the command line, trains, samples, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--model", default="fashion", help="a shipped name or a folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scale", type=float, help="of classifier-free guidance; none by default")
    args = parser.parse_args()

    net = train(fashion_mnist(args.root), epochs=args.epochs)
    test = fashion_mnist(args.root, train=False)
    images, labels = test.batch(list(range(len(test))), None)  # type: ignore[arg-type]
    found, features = seen(net, images)
    accuracy = float((found == labels).double().mean())
    if accuracy < 0.9:
        raise SystemExit(f"the classifier reaches {accuracy:.3f} on the test images, it needs 0.9: more --epochs.")
    real = torch.cat([(labels == k).nonzero()[:PER_CLASS, 0] for k in range(10)])
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[real] = False

    asked = torch.arange(10).repeat_interleave(PER_CLASS)
    model = sfumato.load(args.model)
    with trange(100, desc="samples") as bar:

        def tick(done: int, total: int) -> None:
            bar.update(100 * done // total - bar.n)

        drawn = model.sample(
            len(asked), seed=0, cond=asked, steps=args.steps, scale=args.scale, batch=50, progress=tick
        )
    got, ours = seen(net, model.codec.encode(drawn.clamp(0, 1)))
    result = {
        "model": args.model,
        "steps": args.steps,
        "scale": args.scale,
        "classifier_accuracy": round(accuracy, 4),
        "as_asked": round(float((got == asked).double().mean()), 4),
        "as_asked_real": round(float((found[real] == labels[real]).double().mean()), 4),
        "as_asked_by_class": [round(float((got == asked)[asked == k].double().mean()), 2) for k in range(10)],
        "frechet": round(frechet(ours, features[rest]), 3),
        "frechet_real": round(frechet(features[real], features[rest]), 3),
        "sfumato": sfumato.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
