"""D2C on Fashion-MNIST: an unconditional latent model, made conditional by 100 labels.

    python benchmarks/d2c.py --root ROOT --run build/d2c

Trains the autoencoder, its contrastive codes and the diffusion prior together on the 60,000 training images without
their labels (the run continues where it stopped), fits a logistic classifier of the codes on 10 labelled images of each
class, and draws 20 of each class by rejection. The classifier of `fashion.py`, trained on all 60,000 labels, says how
many are of the class that was asked for; beside it the share of real test images, and the accuracy of the 100-label
classifier on codes, on pixels and, where --plain names a run, on the codes of a model without the contrastive term.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch
from fashion import seen, train
from tqdm import tqdm

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data.labelled import Labelled, fashion_mnist
from sfumato.recipes.d2c import Classifier, Recipe, reject
from sfumato.training import warmup_decay
from sfumato.training.runs import run

RECIPE = Recipe(channels=1, coder=(64,), patch=4, widths=(32, 48), blocks=1, attention=())
LABELS, PER_CLASS = 10, 20


def learn(folder: Path, root: Path, recipe: Recipe, steps: int, batch: int) -> sf.Model:
    """The model in `folder`, trained as far as `steps`."""
    config = {"recipe": "d2c", "fields": dataclasses.asdict(recipe), "event": [1, 28, 28]}
    torch.manual_seed(0)  # the first weights
    objective = recipe.objective(recipe.model())
    plan = warmup_decay(steps, decay=0.5)
    sizes = {"steps": steps, "batch": batch, "recipe": Recipe}
    done = run(folder, config, objective, fashion_mnist(root), **sizes, rate=2e-3, schedule=plan)
    for _ in tqdm(done, total=steps, desc=folder.name, mininterval=10):
        pass
    return sf.load(folder)


def few(model: sf.Model, data: Labelled) -> tuple[Classifier, float]:
    """The classifier of 100 labels and its accuracy on the codes of other images."""
    picked = torch.cat([(data.labels == k).nonzero()[:LABELS, 0] for k in range(10)])
    test = list(range(30_000, 35_000))
    found = Classifier.fitted(codes(model, data, picked.tolist()), data.labels[picked], 10)
    right = found.probs(codes(model, data, test)).argmax(1) == data.labels[test]
    return found, float(right.double().mean())


def codes(model: sf.Model, data: Labelled, items: list[int]) -> torch.Tensor:
    """Standardised codes of these images."""
    x = Affine.unit().decode(data.batch(items, None)[0])  # type: ignore[arg-type]
    with torch.no_grad():
        return torch.cat([model.codec.encode(rows) for rows in x.split(500)])


def pixels(data: Labelled) -> float:
    """Accuracy of the same classifier with the same labels on pixels."""
    picked = torch.cat([(data.labels == k).nonzero()[:LABELS, 0] for k in range(10)])
    test = list(range(30_000, 35_000))
    (x, y), (x2, y2) = data.batch(picked.tolist(), None), data.batch(test, None)  # type: ignore[arg-type]
    found = Classifier.fitted(x, y, 10)
    return float((found.probs(x2).argmax(1) == y2).double().mean())


def main() -> None:
    """Parses the command line, trains, draws, judges, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--plain", type=Path, help="folder of a run without the contrastive term")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2, help="of the judge")
    parser.add_argument("--train", action="store_true", help="trains only")
    parser.add_argument("--picture", type=Path, help="writes ten draws of each class")
    parser.add_argument("--figure", type=Path, help="writes the figure as JSON")
    args = parser.parse_args()
    began = time.perf_counter()
    model, data = learn(args.run, args.root, RECIPE, args.steps, args.batch), fashion_mnist(args.root)
    if args.train:
        return
    found, accuracy = few(model, data)
    source = RECIPE.prior(model.denoiser, (4, 7, 7), steps=50)
    drawn, asked = zip(*(reject(source, found.of(k), PER_CLASS, sf.Noise(k), batch=128) for k in range(10)))
    with torch.no_grad():
        x = torch.cat([model.codec.decode(z) for z in drawn]).clamp(0, 1)
    labels = torch.arange(10).repeat_interleave(PER_CLASS)
    minutes = (time.perf_counter() - began) / 60
    judge, test = train(data, epochs=args.epochs), fashion_mnist(args.root, train=False)
    got, _ = seen(judge, Affine.unit().encode(x))
    images, truth = test.batch(list(range(2000)), None)  # type: ignore[arg-type]
    back = model.codec.decode(codes(model, data, list(range(500))))
    error = back - Affine.unit().decode(data.batch(list(range(500)), None)[0])  # type: ignore[arg-type]
    result = {
        "as_asked": round(float((got == labels).double().mean()), 3),
        "as_asked_by_class": [round(float((got == labels)[labels == k].double().mean()), 2) for k in range(10)],
        "judge_on_test_images": round(float((seen(judge, images)[0] == truth).double().mean()), 3),
        "few_shot_accuracy": round(accuracy, 3),
        "few_shot_accuracy_pixels": round(pixels(data), 3),
        "kept_share": round(10 * PER_CLASS / sum(asked), 3),
        "reconstruction_psnr": round(-10 * float(error.square().mean().log10()), 1),
        "minutes": round(minutes, 1),
    }
    if args.plain:
        plain = learn(args.plain, args.root, dataclasses.replace(RECIPE, contrast=0.0), args.steps, args.batch)
        result["few_shot_accuracy_plain"] = round(few(plain, data)[1], 3)
    print(json.dumps(result, indent=1))
    if args.figure:
        line = {
            "data": f"Fashion-MNIST, 100 labels; {args.steps} steps of {args.batch}",
            "figure": f"{100 * result['as_asked']:.0f} % of 200 draws seen as asked (10 % by chance; the judge sees "
            f"{100 * result['judge_on_test_images']:.0f} % of real images so); 100 labels classify "
            f"{100 * result['few_shot_accuracy']:.0f} % by codes, {100 * result['few_shot_accuracy_pixels']:.0f} % by "
            f"pixels; reconstruction {result['reconstruction_psnr']} dB",
            "command": f"python benchmarks/d2c.py --root ROOT --run RUN --steps {args.steps}",
        }
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        args.figure.write_text(json.dumps(line, indent=1) + "\n", "utf-8")
    if args.picture:
        from sfumato.cli.outputs import grid, write_picture

        rows = x.reshape(10, PER_CLASS, 1, 28, 28)[:, :10].transpose(0, 1).reshape(-1, 1, 28, 28)
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        write_picture(args.picture, grid(rows))


if __name__ == "__main__":
    main()
