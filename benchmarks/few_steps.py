"""Few-step methods on a mixture of known flow: eight modes on a circle, a small network, a minute each.

    python benchmarks/few_steps.py METHOD [--steps 1500]

METHOD is flow-matching, consistency-models (training, its improved form, distillation), scm (training, distillation)
or progressive-distillation. Teachers are the exact denoiser, so that the error is that of the method and the network
alone. For each number of calls the sliced Wasserstein distance of 4,000 samples to 4,000 draws of the mixture, beside
that of two sets of draws; and, where the method learns the flow's own map, the root mean square distance to the exact
end of the flow from the same noise.
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
from torch import Tensor, nn

from sfumato import MixtureWorld, Noise, grids, sample
from sfumato.denoisers import Denoiser, MeanOnly, Preconditioned, consistency, predict_flow, predict_v, trig
from sfumato.metrics import sliced_wasserstein
from sfumato.nets import MLP
from sfumato.processes import EDM, Cosine, Gaussian, Rectified, Trigonometric
from sfumato.samplers import DDIM, Consistency, Euler, Sampler
from sfumato.training import (
    ConsistencyTraining,
    ContinuousConsistency,
    Denoising,
    ProgressiveDistillation,
    Uniform,
    output_weight,
)
from sfumato.training.consistency import doubling, growing, log_normal, pseudo_huber

COUNT, BATCH, SPREAD = 4000, 256, 0.71


def world() -> MixtureWorld:
    """Eight round modes on the unit circle, of standard deviation 0.1."""
    turn = torch.arange(8, dtype=torch.float64) * math.pi / 4
    covs = 0.01 * torch.eye(2, dtype=torch.float64).repeat(8, 1, 1)
    return MixtureWorld(torch.ones(8, dtype=torch.float64), torch.stack([turn.cos(), turn.sin()], 1), covs)


def network(process: Gaussian, scheme: Any) -> Preconditioned:
    """A small one, the same weights at the start for every method."""
    torch.manual_seed(0)
    return Preconditioned(MLP(2, 128, 4, start=0.0), process, scheme)


def train(objective: nn.Module, steps: int, rate: float = 1e-3) -> None:
    """Adam, the rate falling to 0 over the second half."""
    optimizer = torch.optim.Adam((p for p in objective.parameters() if p.requires_grad), rate)
    advance, data = getattr(objective, "advance", None), world()
    objective.train()
    for step in range(1, steps + 1):
        noise = Noise(step)
        x0 = data.sample(BATCH, noise).float()
        if advance is not None:
            advance(step)
        loss = objective(x0, None, noise).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = rate * min(1.0, 2 * (1 - step / (steps + 1)))
        optimizer.step()
    objective.eval()


def scores(denoiser: Denoiser, sampler: Sampler, times: tuple[float, ...], *, mapped: bool) -> dict[str, float]:
    """Distances of 4,000 samples: in law and, where the flow's map is learned, to its exact ends."""
    process = denoiser.process
    assert isinstance(process, Gaussian)
    truth = world()
    x1 = process.prior(torch.zeros(COUNT, 2)).sample(Noise(7))
    with torch.no_grad():
        x = sample(denoiser, sampler, x1=x1, times=times, noise=Noise(8)).double()
    found = {"sliced": distance(x, truth.sample(COUNT, Noise(9)))}
    if mapped:
        top = min(1.0, process.time_of(-2 * math.log(1e3)))
        bottom = process.time_of(2 * math.log(500.0))
        start = x1[:200].double()
        if top < 1.0:  # where D is the mean of the data: one DDIM step is exact
            D = truth.denoiser(process)(start, 1.0)._replace(var=None)
            start = process.reverse(D, start, 1.0, top, 0.0).mean
        end = truth.flow(start, top, bottom, process, steps=100)
        found["rms"] = float((x[:200] - end).square().sum(1).mean().sqrt())
    return found


def distance(a: Tensor, b: Tensor) -> float:
    """Sliced Wasserstein-2 distance over the same 128 directions."""
    return float(sliced_wasserstein(a, b, noise=Noise(10)))


def flow_matching(steps: int) -> dict[str, Any]:
    """Learned velocity, Euler steps."""
    model = network(Rectified(), predict_flow)
    train(Denoising(model, Uniform(1e-5, 1.0), output_weight(predict_flow)), steps)
    return {f"{n} calls": scores(model, Euler(), grids.uniform(n), mapped=True) for n in (1, 4, 16, 50)}


def consistency_models(steps: int) -> dict[str, Any]:
    """Training, improved training, distillation; one and two calls."""
    process, report = EDM(), {}
    teacher = MeanOnly(world().denoiser(process))
    choices: dict[str, Callable[[Denoiser], ConsistencyTraining]] = {
        "CT": lambda f: ConsistencyTraining(f, growing(steps), decay=lambda N: math.exp(2 * math.log(0.9) / N)),
        "iCT": lambda f: ConsistencyTraining(
            f, doubling(steps), distance=pseudo_huber(), law=log_normal(), improved=True
        ),
        "CD": lambda f: ConsistencyTraining(f, 18, teacher=teacher, decay=lambda N: 0.95),
    }
    middle = process.time_of(-2 * math.log(0.8))
    for name, make in choices.items():
        model = network(process, consistency(SPREAD))
        train(make(model), steps)
        report[f"{name}, 1 call"] = scores(model, Consistency(), (1.0, 0.0), mapped=True)
        report[f"{name}, 2 calls"] = scores(model, Consistency(), (1.0, middle, 0.0), mapped=False)
    return report


def scm(steps: int) -> dict[str, Any]:
    """Training and distillation."""
    process, report = Trigonometric(SPREAD), {}
    teacher = MeanOnly(world().denoiser(process))
    middle = process.time_of(-2 * math.log(0.8))
    for name, guide in (("sCT", None), ("sCD", teacher)):
        model = network(process, trig(SPREAD))
        train(ContinuousConsistency(model, guide, warmup=steps // 4), steps)
        report[f"{name}, 1 call"] = scores(model, Consistency(), (1.0, 0.0), mapped=True)
        report[f"{name}, 2 calls"] = scores(model, Consistency(), (1.0, middle, 0.0), mapped=False)
    return report


def progressive_distillation(steps: int) -> dict[str, Any]:
    """32 DDIM steps of the exact denoiser, halved to one."""
    process, report = Cosine(0.0), {}
    teacher: Denoiser = MeanOnly(world().denoiser(process))
    model = network(process, predict_v)
    for n in (16, 8, 4, 2, 1):
        train(ProgressiveDistillation(model, teacher, n), steps // 3 if n > 1 else steps)
        report[f"{n} calls"] = scores(model, DDIM(), grids.uniform(n), mapped=True)
        exact = MeanOnly(world().denoiser(process))
        report[f"{n} calls"]["sliced, DDIM alone"] = scores(exact, DDIM(), grids.uniform(n), mapped=False)["sliced"]
        teacher, before = model, model.state_dict()
        model = network(process, predict_v)
        model.load_state_dict(before)
    return report


METHODS = {
    "flow-matching": flow_matching,
    "consistency-models": consistency_models,
    "scm": scm,
    "progressive-distillation": progressive_distillation,
}


def sentence(report: dict[str, dict[str, float]]) -> str:
    """The figure of the method's page."""
    said = []
    for name, row in report.items():
        more = [f"{row['rms']:.2f} rms from the flow's ends"] if "rms" in row else []
        more += [f"DDIM alone {row['sliced, DDIM alone']:.3f}"] if "sliced, DDIM alone" in row else []
        said.append(f"{name} {row['sliced']:.3f}" + (f" ({', '.join(more)})" if more else ""))
    return "sliced Wasserstein distance: " + "; ".join(said)


def main() -> None:
    """Parses the command line, trains, prints and writes the distances and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    report = METHODS[args.method](args.steps)
    report["two sets of draws"] = {
        "sliced": distance(world().sample(COUNT, Noise(11)), world().sample(COUNT, Noise(9)))
    }
    found = {
        "data": f"eight modes on a circle, 2-d, {COUNT:,} samples; teachers are exact",
        "figure": sentence(report),
        "command": f"python benchmarks/few_steps.py {args.method} --steps {args.steps}",
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    print(json.dumps(found, indent=1))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.method}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
