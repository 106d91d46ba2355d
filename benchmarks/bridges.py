"""Bridges on two-dimensional worlds where the answer is known: one command, about a minute each.

    python benchmarks/bridges.py dsb|schrodinger-generative|neural-sde|rectified-flow [--picture FILE]

dsb: from N(m_0, C_0) to N(m_1, C_1), whose Schroedinger bridge is known: the covariance of the ends that networks
carry, and the ends' Frechet distances, round by round. schrodinger-generative: a ring of eight normals, its sliced
Wasserstein distance beside that of fresh draws. neural-sde: a linear latent world, the bound and the weighted evidence
beside the true one. rectified-flow: the same ring from noise, with independent and with optimal pairs: the distance by
Euler steps.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sfumato as sf
from sfumato.denoisers import Preconditioned, edm, predict_flow
from sfumato.metrics.frechet import frechet_normal
from sfumato.metrics.sliced import sliced_wasserstein
from sfumato.nets import MLP
from sfumato.noise import Noise, Seeds
from sfumato.recipes import dsb, neural_sde, rectified_flow, schrodinger_generative
from sfumato.training import Ema, couplings, fit, warmup_decay

Panel = tuple[str, Tensor]


def ring(radius: float = 2.0, spread: float = 0.15) -> sf.MixtureWorld:
    """Eight normals on a circle."""
    angle = torch.arange(8) * math.pi / 4
    means = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return sf.MixtureWorld(torch.ones(8), means, spread**2 * torch.eye(2).repeat(8, 1, 1))


class Drawn:
    """Fresh draws of a world as training data."""

    def __init__(self, world: sf.MixtureWorld) -> None:
        self.world = world

    def __len__(self) -> int:
        return 100_000

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): the items are not looked at."""
        return self.world.sample(len(items), noise), None


def trained(objective: torch.nn.Module, data: Any, steps: int, *, batch: int = 128, rate: float = 2e-3) -> Any:
    """The average of the objective's weights after training."""
    ema = Ema(objective, 0.995)
    optimizer = torch.optim.Adam(objective.parameters(), rate)
    for _ in fit(objective, data, optimizer, steps=steps, batch=batch, ema=ema, schedule=warmup_decay(steps)):
        pass
    return ema.average


def run_dsb() -> tuple[dict[str, Any], list[Panel]]:
    """Networks against the closed-form bridge of two normals."""
    mean0, mean1 = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.5])
    cov0, cov1 = torch.tensor([[1.0, 0.6], [0.6, 0.6]]), torch.tensor([[0.3, -0.2], [-0.2, 0.8]])
    start, end = sf.GaussianWorld(mean0, cov0).sample, sf.GaussianWorld(mean1, cov1).sample
    recipe = dsb.Recipe(
        steps=20, first=0.05, last=0.05, rounds=4, iterations=400, refresh=100, batch=256, rate=2e-3, cache=1000,
        decay=0.98, learned=True, warm=True,
    )  # fmt: skip
    exact = couplings.Exact(mean0, cov0, mean1, cov1, 2 * recipe.times()[-1]).cross()
    rows = []
    for half in recipe.train(lambda: MLP(2, 64, 2, out=4), start, end):
        if half.index % 2 == 0:
            x0 = start(20_000, Noise(1))
            states = list(dsb.walk(half.forward, x0, recipe.times(), Noise(2)))
            both = torch.cov(torch.cat([x0, states[-1]], 1).T)
            gap = frechet_normal(states[-1].mean(0), both[2:, 2:], mean1, cov1)
            error = float((both[:2, 2:] - exact).norm() / exact.norm())
            rows.append({"round": half.index // 2, "coupling": round(error, 3), "frechet": round(gap, 4)})
            print(rows[-1], flush=True)
    apart = frechet_normal(mean0, cov0, mean1, cov1)
    result = {"rounds": rows, "frechet_of_the_ends": round(apart, 3), "data": "two normals in the plane"}
    result["figure"] = (
        f"with learned variances: covariance of the ends within {rows[-1]['coupling']:.0%} of the bridge's "
        f"after {len(rows)} rounds "
        f"(independent ends: 100%); Frechet distance of the end {rows[-1]['frechet']:.3f} (of the start {apart:.2f})"
    )
    return result, [
        ("start", x0),
        ("half way", states[len(states) // 2]),
        ("end", states[-1]),
        ("truth", end(2000, Noise(4))),
    ]


def run_two_stages() -> tuple[dict[str, Any], list[Panel]]:
    """A ring from a point: the data's mean, the smoothed ring, the ring."""
    world, data = ring(), Drawn(ring())
    recipe = schrodinger_generative.Recipe(sigma=1.0, tau=4.0, levels=50, draws=8)
    torch.manual_seed(0)
    score = Preconditioned(MLP(2, 192, 4), recipe.process(), edm(1.4))
    model = schrodinger_generative.TwoStage(score, MLP(2, 64, 2, out=1))
    model = trained(recipe.objective(model), data, 5000).denoiser
    n, truth = 4000, world.sample(4000, Noise(1))
    with torch.no_grad():
        smooth = recipe.first(model, torch.zeros(n, 2), Noise(2))
    drawn = recipe.draw(model, (n, 2), Noise(2))
    wide = world.marginal(recipe.process(), 1.0)
    stages = {
        "first": sliced_wasserstein(smooth, wide.sample(n, Noise(3)), noise=Noise(9)),
        "whole": sliced_wasserstein(drawn, truth, noise=Noise(9)),
        "fresh": sliced_wasserstein(world.sample(n, Noise(5)), truth, noise=Noise(9)),
        "near": near(world, drawn),
        "near_true": near(world, truth),
    }
    result: dict[str, Any] = {k: round(v, 3) for k, v in stages.items()} | {"data": "a ring of eight normals"}
    result["figure"] = (
        f"sliced Wasserstein distance {stages['whole']:.3f} (fresh draws {stages['fresh']:.3f}); "
        f"{100 * stages['near']:.0f} % within three deviations of a mode (the data {100 * stages['near_true']:.0f} %); "
        f"after stage 1, to the smoothed ring, {stages['first']:.3f}"
    )
    return result, [("after stage 1", smooth), ("after stage 2", drawn), ("truth", truth)]


def near(world: sf.MixtureWorld, x: Tensor) -> float:
    """Share of points within three standard deviations of the nearest mode."""
    return float((torch.cdist(x, world.means.to(x)).amin(1) < 3 * float(world.covs[0, 0, 0]) ** 0.5).float().mean())


class Linear(torch.nn.Module):
    """W x as a decoder."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, x: Tensor, t: Tensor, cond: object) -> Tensor:
        return x @ self.weight.T


class Seen(Drawn):
    """Draws of the observations."""


def run_neural_sde() -> tuple[dict[str, Any], list[Panel]]:
    """y = W x + 0.5 n, x ~ N(0, I): the posterior is linear, and so is the best control."""
    W = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, -1.0]])
    world = sf.GaussianWorld(torch.zeros(3), W @ W.T + 0.25 * torch.eye(3))
    torch.manual_seed(0)
    recipe = neural_sde.Recipe(dim=2, observed=3, width=64, depth=2, steps=20, drift=False, noise=0.5)
    model = recipe.model()
    model.decoder = Linear(W)
    model.requires_grad_(False)
    model.control.requires_grad_(True)
    y = world.sample(1000, Noise(1))
    truth = -float(world.log_prob(y).mean())
    free = float(recipe.objective(model)(y, None, Noise(2)).detach().mean())
    model = trained(recipe.objective(model), Seen(world), 400, batch=128, rate=5e-3).denoiser
    with torch.no_grad():
        bounds = recipe.objective(model)(y, None, Noise(2))
    tight = -float(recipe.evidence(model, y, Noise(3), paths=64).mean())
    K = W.T @ torch.linalg.inv(W @ W.T + 0.25 * torch.eye(3))
    x = recipe.infer(model, y[:1].repeat(4000, 1), Noise(4))
    gap = frechet_normal(x.mean(0), torch.cov(x.T), K @ y[0], torch.eye(2) - K @ W)
    values = {"evidence": truth, "bound": float(bounds.mean()), "importance": tight, "no_control": free, "frechet": gap}
    result: dict[str, Any] = {k: round(v, 3) for k, v in values.items()} | {
        "data": "a linear latent world, 2 to 3 numbers"
    }
    result["figure"] = (
        f"bound {values['bound'] - truth:+.3f} nats from -log evidence {truth:.3f} "
        f"(without control {free - truth:+.2f}; "
        f"64 weighted paths {tight - truth:+.4f}); Frechet distance of the posterior {gap:.3f}"
    )
    posterior = sf.GaussianWorld(K @ y[0], torch.eye(2) - K @ W)
    return result, [("X_1 given y", x), ("posterior", posterior.sample(4000, Noise(5)))]


def run_flow() -> tuple[dict[str, Any], list[Panel]]:
    """The error of few Euler steps, by coupling."""
    world, data = ring(), Drawn(ring())
    truth, start = world.sample(4000, Noise(1)), Noise(2).normal(torch.empty(4000, 2))
    errors: dict[str, dict[int, float]] = {}
    panels: list[Panel] = []
    for name, coupling in (("independent", couplings.independent), ("optimal", couplings.optimal)):
        torch.manual_seed(0)
        recipe = rectified_flow.Recipe()
        model = Preconditioned(MLP(2, 128, 3), recipe.process(), predict_flow)
        model = trained(recipe.objective(model, coupling=coupling), data, 1000).denoiser
        errors[name] = {}
        for steps in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64):
            x = sf.sample(model, recipe.sampler(), x1=start, times=sf.grids.uniform(steps), noise=Noise(0))
            errors[name][steps] = round(sliced_wasserstein(x, truth, noise=Noise(9)), 3)
            if steps == 4:
                panels.append((f"{name}, 4 steps", x))
        print(name, errors[name], flush=True)
    target = errors["independent"][16]
    fewer = min((n for n, e in errors["optimal"].items() if e <= target), default=0)
    fresh = sliced_wasserstein(world.sample(4000, Noise(5)), truth, noise=Noise(9))
    result = {"errors": errors, "fresh": round(fresh, 3), "data": "a ring of eight normals in the plane"}
    result["figure"] = (
        f"minibatch optimal transport reaches with {fewer} Euler steps the sliced Wasserstein distance {target:.3f} "
        f"that independent pairs reach with 16; at 4 steps {errors['optimal'][4]:.3f} "
        f"against {errors['independent'][4]:.3f}"
    )
    return result, [*panels, ("truth", truth)]


def draw(panels: list[Panel], path: Path) -> None:
    """Point clouds side by side; needs matplotlib."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(panels), figsize=(2.4 * len(panels), 2.6), layout="constrained")
    for axis, (title, x) in zip(axes, panels):
        axis.plot(*x[:1500].T, ".", ms=1, color="tab:blue", alpha=0.6)
        axis.set(title=title, xticks=[], yticks=[], aspect="equal", xlim=(-3.6, 3.6), ylim=(-3.6, 3.6))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=90)


RUNS: dict[str, Callable[[], tuple[dict[str, Any], list[Panel]]]] = {
    "dsb": run_dsb,
    "schrodinger-generative": run_two_stages,
    "neural-sde": run_neural_sde,
    "rectified-flow": run_flow,
}


def main() -> None:
    """Parses the command line, runs, prints, draws, keeps the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("key", choices=RUNS)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--figure", type=Path, help="writes the figure as JSON")
    args = parser.parse_args()
    began = time.process_time()
    result, panels = RUNS[args.key]()
    minutes = round((time.process_time() - began) / 60, 1)
    print(json.dumps(result | {"cpu_minutes": minutes}, indent=1))
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        command = f"python benchmarks/bridges.py {args.key}"
        line = {
            "data": result["data"],
            "figure": result["figure"],
            "command": command,
            "minutes": max(1, round(minutes)),
        }
        args.figure.write_text(json.dumps(line) + "\n", "utf-8")
    if args.picture:
        draw(panels, args.picture)


if __name__ == "__main__":
    main()
