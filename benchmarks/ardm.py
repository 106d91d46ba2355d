"""ARDM on real text and on pictures: bits per character and per pixel, as a bound, as bytes, and beside other models.

    python benchmarks/ardm.py --root ROOT --steps 1500

Text: the fortunes of Debian, 1.5 million characters, every twentieth stretch of 2048 held out; windows of 128. A small
transformer is trained in any order; the bound on held-out windows is measured, some windows are coded to bytes and
decoded again, and the cost of sampling in fewer steps is shown. Beside it: interpolated Kneser-Ney of order 6 on the
same text, also cut off at the start of each window, and what xz adds for the held-out text. Pictures: Fashion-MNIST,
14 x 14 at 16 levels, coded too. Writes benchmarks/data/figures/ardm.json and docs/pictures/ardm.png.
"""

from __future__ import annotations

import argparse
import lzma
import math
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import torch
from d3pm import LEVELS, Small, keep, trained
from torch import Tensor

from sfumato.codecs import Quantized
from sfumato.codecs.alphabet import text as written
from sfumato.data.text import Text, common, fortunes
from sfumato.noise import Noise, Seeds
from sfumato.recipes import ardm
from sfumato.samplers import trajectory

LENGTH, STRETCH = 128, 2048


class KneserNey:
    """Interpolated Kneser-Ney over characters: p(c | h) = max(n(hc) - d, 0) / n(h) + d kinds(h) / n(h) p(c | h'),
    h' one character shorter; below the full order n counts the kinds of characters before.

    Source: Chen & Goodman 1999 section 2.7, with one discount.
    """

    def __init__(self, text: str, order: int, discount: float = 0.75) -> None:
        self.order, self.discount, self.size = order, discount, len(set(text))
        counts: Counter[str] = Counter(text[i : i + order] for i in range(len(text) - order + 1))
        self.counts: list[dict[str, int]] = [dict(counts)]
        for _ in range(order - 1):
            self.counts.append(Counter(gram[1:] for gram in self.counts[-1]))
        self.counts.reverse()  # by length, from 1
        self.sums: list[dict[str, tuple[int, int]]] = []
        for table in self.counts:
            whole: dict[str, list[int]] = defaultdict(lambda: [0, 0])
            for gram, n in table.items():
                whole[gram[:-1]][0] += n
                whole[gram[:-1]][1] += 1
            self.sums.append({h: (n, kinds) for h, (n, kinds) in whole.items()})

    def probability(self, history: str, symbol: str) -> float:
        """p(symbol | the last order - 1 characters of the history)."""
        p = 1.0 / self.size
        for length in range(min(self.order, len(history) + 1)):
            h = history[len(history) - length :]
            total, kinds = self.sums[length].get(h, (0, 0))
            if not total:
                break
            n = self.counts[length].get(h + symbol, 0)
            p = max(n - self.discount, 0.0) / total + self.discount * kinds / total * p
        return p

    def bits(self, text: str, starts: list[int], window: int, *, before: bool) -> float:
        """Mean bits per character of the windows of a text that start there, given what is before them, or not."""
        total = 0.0
        for start in starts:
            for i in range(start, start + window):
                first = max(0 if before else start, i - self.order + 1)
                total -= math.log2(self.probability(text[first:i], text[i]))
        return total / (len(starts) * window)


def bound(recipe: ardm.Recipe, denoiser: torch.nn.Module, x0: Tensor, draws: int) -> tuple[float, float]:
    """Bits per dimension, and their standard error, by `draws` numbers of known positions for each row."""
    objective = ardm.OrderAgnostic(denoiser, 0.0)
    with torch.no_grad():
        bits = torch.stack([objective(x0, None, Noise(i)) for i in range(draws)]).mean(0)
    return float(bits.mean()), float(bits.std()) / len(bits) ** 0.5


def coded(recipe: ardm.Recipe, denoiser: torch.nn.Module, x0: Tensor, steps: int | None = None) -> float:
    """Bits per dimension of the bytes; stops if they do not give x0 back."""
    code = recipe.encode(denoiser, x0, steps=steps)
    if not torch.equal(recipe.decode(denoiser, code, x0.shape, steps=steps), x0):
        raise SystemExit("the code does not give the data back.")
    return 8 * len(code) / x0.numel()


def main() -> None:
    """Parses the command line, trains, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--steps", type=int, default=1500, help="of training on text")
    parser.add_argument("--picture-steps", type=int, default=700, help="of training on pictures")
    parser.add_argument("--windows", type=int, default=128, help="held-out windows of the bound")
    parser.add_argument("--order", type=int, default=6, help="of the Kneser-Ney model")
    args = parser.parse_args()

    began = time.perf_counter()
    whole = common(fortunes(args.root))
    stretches = [whole[i : i + STRETCH] for i in range(0, len(whole), STRETCH)]
    train = "".join(s for i, s in enumerate(stretches) if i % 20)
    held = "".join(s for i, s in enumerate(stretches) if i % 20 == 0)
    data = Text(train, LENGTH)
    test = Text(held, LENGTH, data.codec).windows()
    chosen = list(range(0, len(test), max(1, len(test) // args.windows)))[: args.windows]
    test, starts = test[chosen], [i * LENGTH for i in chosen]
    ngram = KneserNey(train, args.order)
    cut, free = (ngram.bits(held, starts, LENGTH, before=before) for before in (False, True))
    xz = 8 * (len(lzma.compress((train + held).encode())) - len(lzma.compress(train.encode()))) / len(held)
    print(f"Kneser-Ney {cut:.3f} in windows, {free:.3f} running; xz {xz:.3f} bits/character", flush=True)

    recipe = ardm.Recipe(
        levels=len(data.codec.symbols), length=LENGTH, width=128, depth=4, heads=4, dropout=0.0, weight=1e-4
    )
    denoiser = trained(recipe, data, args.steps, 16)
    bits, error = bound(recipe, denoiser, test, 8)
    some = test[:: max(1, len(test) // 16)][:16]
    own, size = bound(recipe, denoiser, some, 64)[0], coded(recipe, denoiser, some)
    losses = recipe.losses(denoiser, test[:64], Noise(0), calls=16)
    merged = {}
    for steps in (8, 16, 32):
        for name, times in (("even", recipe.times(LENGTH, steps)), ("best", recipe.times(LENGTH, steps, losses))):
            known = [round((1 - t) * LENGTH) for t in times]
            cost = sum(float(losses[a]) * (b - a) for a, b in pairwise(known))
            merged[f"{name} {steps}"] = round(cost / LENGTH / math.log(2), 3)
    print(f"text: bound {bits:.3f} +- {error:.3f}; 16 windows: bound {own:.3f}, bytes {size:.3f}", flush=True)
    print(f"bits/character when sampled in fewer steps: {merged}", flush=True)
    noise = Seeds(range(2))
    x1 = torch.full((2, LENGTH), recipe.levels)
    for step in trajectory(denoiser, recipe.sampler(), x1, recipe.times(LENGTH), noise):
        pass
    for row in step.x:
        print(repr(written(data.codec.decode(row))))

    pictures, images = Small(args.root, train=True), Small(args.root, train=False).x[:200]
    drawing = ardm.Recipe(channels=1, levels=LEVELS, widths=(32, 64), blocks=1, attention=(), dropout=0.0)
    painter = trained(drawing, pictures, args.picture_steps, 32)
    dims, off = bound(drawing, painter, images, 8)
    eight, bytes_ = bound(drawing, painter, images[:8], 128)[0], coded(drawing, painter, images[:8])
    print(f"pictures: bound {dims:.3f} +- {off:.3f}; 8 images: bound {eight:.3f}, bytes {bytes_:.3f}", flush=True)
    rows, x1 = [], torch.full((12, 1, 14, 14), LEVELS)
    for step in trajectory(painter, drawing.sampler(), x1, drawing.times(196), Seeds(range(12))):
        if step.index in (20, 60, 120, 196):
            grey = torch.where(step.x == LEVELS, 0.5, Quantized(LEVELS).decode(step.x))
            rows.append(torch.cat(list(grey[:, 0]), 1))
    result = {
        "data": "fortunes (Debian), windows of 128 characters; Fashion-MNIST, 14 x 14 at 16 levels",
        "figure": f"{bits:.2f} bits/character (bound), {size:.2f} as decoded bytes where the bound is {own:.2f}; "
        f"Kneser-Ney of order {args.order} {cut:.2f} in the same windows, {free:.2f} running, xz {xz:.2f}. Pictures "
        f"{dims:.2f} bits/dim, {bytes_:.2f} as bytes where the bound is {eight:.2f}",
        "command": f"python benchmarks/ardm.py --root ROOT --steps {args.steps}",
        "minutes": round((time.perf_counter() - began) / 60),
    }
    keep("ardm", result, rows)


if __name__ == "__main__":
    main()
