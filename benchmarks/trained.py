"""Every trained method on real images, small and in minutes: Fashion-MNIST averaged to 14 x 14.

    python benchmarks/trained.py ddpm --root ROOT        # trains, samples, writes benchmarks/data/figures/ddpm.json
    python benchmarks/trained.py claims --root ROOT      # what the papers say of one against the other

All share one U-Net (widths 32 and 64), 1,500 steps of 64 images (--steps for others) and AdamW, so that they can be
compared with each other (but not with their papers). Runs are kept under build/trained and continue where they were.
Reported are
- FD: the Frechet distance of a classifier's 64 features, of 500 samples to 9,500 test images. 500 real test images come
  to the FD that is printed as `real`: equal numbers, so equal bias;
- bits per dimension of 8-bit levels on test images, where the method has a likelihood or a bound of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fashion import Classifier
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm, trange

import sfumato as sf
from sfumato import grids, recipes
from sfumato.data.labelled import Labelled, fashion_mnist
from sfumato.denoisers import Clipped, Denoiser
from sfumato.guides.adm import ClassifierGuidance
from sfumato.metrics import frechet
from sfumato.metrics.intervals import group_numbers
from sfumato.noise import Noise, Seeds
from sfumato.processes import Table
from sfumato.processes.variances import large, small
from sfumato.processes.variances import learned as between
from sfumato.recipes import adversarial_score, ddpm, iddpm, ncsn, ncsnv2, vdm
from sfumato.samplers import DDIM, Ancestral, sample
from sfumato.training import Denoising, Ema, Steps, min_snr, warmup_decay
from sfumato.training.runs import run
from sfumato.zoo.files import read_weights

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "trained"
SIZE: dict[str, Any] = {"channels": 1, "widths": (32, 64), "attention": (), "dropout": 0.0}
COUNT = 500  # samples
MANY = 2500  # of the claims


def pooled(data: Labelled) -> Labelled:
    """The images averaged over 2 x 2 pixels, rounded to levels."""
    means = F.avg_pool2d(data.images.float(), 2).round().byte()
    return Labelled(means.permute(0, 2, 3, 1).numpy(), data.labels.numpy())


class Unit:
    """The same data on [0, 1], where the noise ladders of score networks are defined."""

    def __init__(self, data: Labelled) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): unconditional."""
        return 0.5 * self.data.batch(items, noise)[0] + 0.5, None


class Plain(Unit):
    """The same data on [-1, 1] without their labels."""

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        return self.data.batch(items, noise)[0], None


class Bench:
    """The data, the judge, and what every method does with them."""

    def __init__(self, root: Path, steps: int) -> None:
        self.train, self.test = pooled(fashion_mnist(root)), pooled(fashion_mnist(root, train=False))
        self.steps = steps
        self.images = self.test.batch(list(range(len(self.test))), None)[0]  # type: ignore[arg-type]
        self.judge = self._judge()
        features = self.judge.features(self.images)
        self.real, self.rest = features[:COUNT], features[COUNT:]

    def _judge(self) -> Small:
        net, path = Small(), BUILD / "classifier.safetensors"
        if path.exists():
            net.load_state_dict(load_file(path))
            return net.eval().requires_grad_(False)
        fitted(net, self.train, lambda x, y, noise: F.cross_entropy(net(x), y), 1400, "classifier")
        with torch.no_grad():
            found = net(self.images).argmax(1)
        print(f"classifier: {float((found == self.test.labels).double().mean()):.3f} of the test images")
        path.parent.mkdir(parents=True, exist_ok=True)
        kept(net, path)
        return net.eval().requires_grad_(False)

    def fit(self, name: str, key: str, recipe: Any, objective: Callable[[Denoiser], nn.Module], data: Any) -> Denoiser:
        """The averaged denoiser of a run."""
        torch.manual_seed(0)  # the first weights
        denoiser = recipe.model()
        config = {"recipe": key, "fields": dataclasses.asdict(recipe), "name": name}
        rows = run(
            BUILD / name, config, objective(denoiser), data, steps=self.steps, batch=64, recipe=type(recipe),
            schedule=warmup_decay(self.steps, decay=0.5), ema_decay=0.995,
        )  # fmt: skip
        for _ in tqdm(rows, desc=name, total=self.steps, mininterval=10):
            pass
        read_weights(BUILD / name, denoiser)
        return denoiser.eval().requires_grad_(False)

    def distance(self, x: Tensor) -> float:
        """FD of samples (500, 1, 14, 14) in [-1, 1]."""
        return frechet(self.judge.features(x.clamp(-1, 1)), self.rest)

    @property
    def floor(self) -> float:
        """FD of 500 real images."""
        return frechet(self.real, self.rest)


class Small(Classifier):
    """`Classifier` for images of half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(64 * 3 * 3, 64)


def fitted(net: nn.Module, data: Labelled, loss: Callable[..., Tensor], steps: int, title: str) -> None:
    """Trains in place: AdamW, one cycle, batches of 128."""
    noise, optimizer = Noise(0), torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in trange(steps, desc=title, mininterval=10):
        items = (noise.uniform(torch.empty(128)) * len(data)).long()
        value = loss(*data.batch(items.tolist(), None), noise)  # type: ignore[arg-type]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()


def drawn(
    denoiser: Denoiser, sampler: Any, times: Any, *, start: Any = None, denoise: bool = False, count: int = COUNT
) -> Tensor:
    """`count` samples, in batches of 250 at most."""
    rows = []
    for k in range(0, count, 250):
        noise = Noise(k)
        blank = torch.zeros(min(250, count - k), 1, 14, 14)
        x1 = start(blank, noise) if start else None
        shape = None if start else blank.shape
        rows.append(sample(denoiser, sampler, shape=shape, x1=x1, times=times, noise=noise, denoise=denoise))
    return torch.cat(rows)


def bits(bound: Any) -> float:
    """Mean bits per dimension of a bound on 14 x 14 numbers."""
    return float(bound.bits(196).mean())


def compared(figures: Callable[[Tensor, Tensor], list[float]], a: Tensor, b: Tensor) -> dict[str, Any]:
    """Figures of several methods on the same items, and those without each tenth of the items.

    Methods are compared by their difference, whose error is the jackknife's (`left_out_error`) over the tenths.
    """
    of_a, of_b = group_numbers(len(a), len(b), 10, Noise(2))
    without = [figures(a[of_a != i], b[of_b != i]) for i in range(10)]
    return {"values": figures(a, b), "without": without}


def run_ddpm(bench: Bench) -> dict[str, Any]:
    recipe = ddpm.Recipe(**SIZE)
    denoiser = bench.fit("ddpm", "ddpm", recipe, recipe.objective, Plain(bench.train))
    x = drawn(recipe.guide(denoiser), recipe.sampler(), grids.table(recipe.process(), 200))
    picture(x, "ddpm")
    bound = bits(recipe.bound(denoiser, bench.images[:64], Noise(1)))
    return {"figure": f"FD {bench.distance(x):.2f} in 200 steps (real {bench.floor:.2f}), {bound:.2f} bits/dim"}


def run_iddpm(bench: Bench) -> dict[str, Any]:
    recipe = iddpm.Recipe(**{**SIZE, "blocks": 2})
    denoiser = bench.fit("iddpm", "iddpm", recipe, recipe.objective, Plain(bench.train))
    x = drawn(recipe.guide(denoiser), recipe.sampler(), recipe.times(50))
    picture(x, "iddpm")
    bound = bits(recipe.bound(denoiser, bench.images[:32], Noise(1)))
    return {"figure": f"FD {bench.distance(x):.2f} in 50 of 4,000 steps (real {bench.floor:.2f}), {bound:.2f} bits/dim"}


def run_ncsn(bench: Bench) -> dict[str, Any]:
    recipe = ncsn.Recipe(**SIZE)
    return ladder(bench, "ncsn", recipe, recipe.sampler(), denoise=False)


def run_ncsnv2(bench: Bench) -> dict[str, Any]:
    recipe = ncsnv2.Recipe(**SIZE).fitted(0.5 * bench.images[:2000] + 0.5)
    return ladder(bench, "ncsnv2", recipe, recipe.sampler(), denoise=True)


def ladder(bench: Bench, key: str, recipe: Any, sampler: Any, *, denoise: bool) -> dict[str, Any]:
    """A score network on its ladder of levels, data on [0, 1]."""
    denoiser = bench.fit(key, key, recipe, recipe.objective, Unit(bench.train))
    x = 2.0 * drawn(denoiser, sampler, recipe.times(), start=recipe.start, denoise=denoise) - 1.0
    picture(x, key)
    calls = recipe.levels * recipe.moves
    return {"figure": f"FD {bench.distance(x):.2f} in {calls} calls (real {bench.floor:.2f}), {recipe.levels} levels"}


def run_adversarial_score(bench: Bench) -> dict[str, Any]:
    """A score network of NCSNv2's ladder, with and without the adversarial term; both sampled by CAS."""
    ladder = ncsnv2.Recipe(**SIZE).fitted(0.5 * bench.images[:2000] + 0.5)
    recipe = adversarial_score.Recipe(
        **SIZE, sigma_max=ladder.sigma_max, levels=ladder.levels, epsilon=ladder.epsilon, sigma_min=ladder.sigma_min
    )
    plain = bench.fit("ncsnv2", "ncsnv2", ladder, ladder.objective, Unit(bench.train))
    denoiser = against_a_discriminator(bench, recipe)
    found = {}
    for name, D in (("with", denoiser), ("without", plain)):
        x = 2.0 * drawn(D, recipe.sampler(), recipe.times(), start=recipe.start, denoise=True) - 1.0
        found[name] = bench.distance(x)
        if name == "with":
            picture(x, "adversarial-score")
    return {
        "figure": f"FD {found['with']:.2f} in {recipe.levels} calls, {found['without']:.2f} without the adversarial "
        f"term (real {bench.floor:.2f})"
    }


def against_a_discriminator(bench: Bench, recipe: Any) -> Denoiser:
    """One step of the judge, one of the generator, in turn."""
    path = BUILD / "adversarial-score.safetensors"
    torch.manual_seed(0)
    denoiser, data = recipe.model(), Unit(bench.train)
    if path.exists():
        denoiser.load_state_dict(load_file(path))
        return denoiser.eval().requires_grad_(False)
    against = Discriminator()
    generator, judge = recipe.generator(denoiser, against), recipe.judge(denoiser, against)
    adam = {"betas": (0.0, 0.9), "lr": 4e-4}
    optimizers = [torch.optim.Adam(net.parameters(), **adam) for net in (against, denoiser)]  # type: ignore[arg-type]
    noise, rate = Noise(0), warmup_decay(bench.steps, decay=0.5)
    mean = Ema(denoiser, 0.995)
    for i in trange(bench.steps, desc="adversarial-score", mininterval=10):
        items = (noise.uniform(torch.empty(64)) * len(data)).long().tolist()
        x0, _ = data.batch(items, None)  # type: ignore[arg-type]
        for loss, optimizer in zip((judge, generator), optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = adam["lr"] * rate(i + 1)  # type: ignore[operator]
            optimizer.zero_grad()
            loss(x0, None, noise).mean().backward()
            optimizer.step()
        mean.update(denoiser)
    denoiser.load_state_dict(mean.average.state_dict())
    kept(denoiser, path)
    return denoiser.eval().requires_grad_(False)


def kept(net: nn.Module, path: Path) -> None:
    """Writes the weights; safetensors takes contiguous tensors alone, and those of convolutions are channels-last."""
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)


class Discriminator(nn.Module):
    """Three strided convolutions, (B, 1, 14, 14) to (B, 1)."""

    def __init__(self) -> None:
        super().__init__()
        sizes, layers = (1, 32, 64, 128), []
        for a, b in pairwise(sizes):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def run_vdm(bench: Bench) -> dict[str, Any]:
    recipe = vdm.Recipe(**{**SIZE, "blocks": 2})
    denoiser = bench.fit("vdm", "vdm", recipe, recipe.objective, Plain(bench.train))
    levels = (bench.images + 1.0) * (255.0 / 256.0) - 1.0 + 1.0 / 256.0  # the middles of 256 bins
    bound = bits(recipe.bound(denoiser, levels[:256], Noise(1)))
    x = drawn(denoiser, recipe.sampler(), grids.uniform(250))
    picture(x, "vdm")
    ends = [float(denoiser.process.log_snr(t)) for t in (0.0, 1.0)]  # type: ignore[operator, union-attr]
    return {
        "figure": f"{bound:.2f} bits/dim, FD {bench.distance(x):.2f} in 250 steps (real {bench.floor:.2f}); log SNR "
        f"learned from {ends[0]:.1f} to {ends[1]:.1f}"
    }


def run_adm(bench: Bench) -> dict[str, Any]:
    """Classes asked of the unconditional `ddpm` by the gradient of a classifier that was trained on noisy images."""
    recipe = ddpm.Recipe(**SIZE)
    denoiser = recipe.guide(bench.fit("ddpm", "ddpm", recipe, recipe.objective, Plain(bench.train)))
    process, net, path = recipe.process(), Noisy(), BUILD / "noisy.safetensors"

    def loss(x: Tensor, y: Tensor, noise: Noise) -> Tensor:
        t = Steps(process.steps)(process, len(x), noise)
        return F.cross_entropy(net(process.marginal(x, t).sample(noise), t), y)

    if path.exists():
        net.load_state_dict(load_file(path))
    else:
        fitted(net, bench.train, loss, 3000, "noisy classifier")
        kept(net, path)
    net.eval().requires_grad_(False)
    asked, said = torch.arange(COUNT) % 10, []

    def log_prob(x: Tensor, t: Any, cond: Any) -> Tensor:
        return net(x, torch.as_tensor(t).expand(len(x))).log_softmax(1).gather(1, cond[:, None])[:, 0]

    for scale in (0.0, 1.0, 4.0):
        guided = ClassifierGuidance(denoiser.given(None), log_prob, scale).given(asked)
        x = sample(guided, DDIM(), shape=(COUNT, 1, 14, 14), times=grids.table(process, 25), noise=Noise(0))
        share = float((bench.judge(x.clamp(-1, 1)).argmax(1) == asked).double().mean())
        said.append(f"scale {scale:g}: {100 * share:.0f} % as asked, FD {bench.distance(x):.2f}")
    picture(x, "adm")
    return {"figure": f"{'; '.join(said)} (real {bench.floor:.2f}; DDIM, 25 steps)"}


class Noisy(nn.Module):
    """A classifier of noisy images that is told the time."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.clock = nn.Conv2d(1, 48, 3, padding=1), nn.Linear(16, 48)
        self.middle, self.last = nn.Conv2d(48, 96, 3, 2, 1), nn.Conv2d(96, 96, 3, 2, 1)
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(96 * 16, 128), nn.SiLU(), nn.Linear(128, 10))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angle = t.to(x)[:, None] * math.pi * 2.0 ** torch.arange(8)
        told = self.clock(torch.cat([angle.sin(), angle.cos()], 1))[..., None, None]
        return self.out(F.silu(self.last(F.silu(self.middle(F.silu(self.enter(x) + told))))))


def run_claims(bench: Bench) -> dict[str, Any]:
    """Orderings that the papers report, at this size. The result is a table of numbers, not a sentence."""
    base, learned = ddpm.Recipe(**SIZE), iddpm.Recipe(**{**SIZE, "blocks": 2})
    plain = bench.fit("ddpm", "ddpm", base, base.objective, Plain(bench.train))
    hybrid = bench.fit("iddpm", "iddpm", learned, learned.objective, Plain(bench.train))
    # More than elsewhere: between 500 samples the claims' differences are within their errors.
    real, rest = bench.judge.features(bench.images).split((MANY, len(bench.images) - MANY))
    found: dict[str, Any] = {"real": frechet(real, rest), "count": MANY, "others": len(rest)}
    many = functools.partial(drawn, count=MANY)

    def distances(*sets: Tensor) -> dict[str, Any]:
        features = torch.stack([bench.judge.features(x.clamp(-1, 1)) for x in sets], 1)
        return compared(lambda a, b: [frechet(a[:, k], b) for k in range(len(sets))], features, rest)

    def bounds(*kinds: Any, net: Any, times: Any, count: int) -> dict[str, Any]:
        x0 = bench.images[:count]
        rows = [sf.likelihood.elbo(net, x0, times, Noise(1), reverse=kind).bits(196) for kind in kinds]
        return compared(lambda a, _: a.mean(0).tolist(), torch.stack(rows, 1), x0)

    for steps in (5, 10, 20, 50):
        times = grids.table(base.process(), steps)
        x = many(Clipped(plain), DDIM(), times), many(Clipped(plain), Ancestral(small), times)
        found[f"FD of DDIM and DDPM in {steps} steps"] = distances(*x)
    found["bits/dim of DDPM with variance beta, btilde"] = bounds(large, small, net=plain, times=base.times(), count=64)
    found["bits/dim of one net, 4,000 steps, variance beta, btilde, learned"] = bounds(
        large, small, between, net=hybrid, times=learned.times(), count=16
    )
    for steps in (10, 25, 50):
        x = (*(many(Clipped(hybrid), Ancestral(kind), learned.times(steps)) for kind in (large, small, between)),)
        found[f"FD of one net in {steps} of 4,000 steps, variance beta, btilde, learned"] = distances(*x)
    linear = recipes.load("ddpm").Recipe(**SIZE, steps=1000)

    class CosineRecipe(type(linear)):  # type: ignore[misc]
        def process(self) -> Table:
            return Table.cosine(1000, 0.008)

    cosine = CosineRecipe(**SIZE)
    D = bench.fit("cosine", "ddpm", cosine, cosine.objective, Plain(bench.train))
    for steps in (20, 50):
        x1 = many(Clipped(plain), Ancestral(small), grids.table(linear.process(), steps))
        x2 = many(Clipped(D), Ancestral(small), grids.table(cosine.process(), steps))
        found[f"FD of linear and cosine in {steps} steps"] = distances(x1, x2)
    snr = bench.fit(
        "min-snr", "ddpm", linear, lambda d: Denoising(d, Steps(1000), min_snr(5.0)), Plain(bench.train)
    )  # fmt: skip
    both = [many(Clipped(d), DDIM(), grids.table(linear.process(), 50)) for d in (plain, snr)]
    found["FD of eps weight and min-SNR after the same steps"] = distances(*both)
    return {"table": found, "figure": ""}


def picture(x: Tensor, key: str) -> None:
    """docs/pictures/KEY.png: 40 samples, five rows, enlarged."""
    tiles = x[:40].clamp(-1, 1).add(1).mul(127.5).byte().reshape(4, 10, 14, 14)
    sheet = tiles.permute(0, 2, 1, 3).reshape(56, 140).numpy().astype(np.uint8)
    path = HERE.parent / "docs" / "pictures" / f"{key}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).resize((560, 224), Image.Resampling.NEAREST).save(path, optimize=True)


RUNS = {name[4:].replace("_", "-"): function for name, function in globals().copy().items() if name.startswith("run_")}


def main() -> None:
    """Parses the command line, trains, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("key", choices=sorted(RUNS))
    parser.add_argument("--root", type=Path, required=True, help="where dataset-fashion-mnist is unpacked")
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    began = time.perf_counter()
    found = RUNS[args.key](Bench(args.root, args.steps))
    minutes = round((time.perf_counter() - began) / 60, 1)
    command = f"python benchmarks/trained.py {args.key} --root ROOT"
    data = f"Fashion-MNIST averaged to 14 x 14, {args.steps:,} steps of 64"
    if args.steps != 1500:
        command += f" --steps {args.steps}"
    if "table" in found:
        path, text = HERE / "data" / "claims.json", {"data": data, "table": found["table"], "command": command}
    else:
        path = HERE / "data" / "figures" / f"{args.key}.json"
        text = {"data": data, "figure": found["figure"], "command": command, "minutes": minutes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(text, indent=1) + "\n")
    print(json.dumps(text, indent=1))


if __name__ == "__main__":
    main()
