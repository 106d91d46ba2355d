"""What a solver costs beside its network: over the floor of the network calls and vector-Jacobian products alone.

    ratio = (time of a step with a denoiser that costs nothing + time of the network in a step) / time of the network

A step is timed with D = x / 2 in place of a network, on one thread by the processor's clock, and what D itself takes is
taken off; the network's time is that of the calls, and of the products with its Jacobian, that the method makes in a
step, each a median in the same process. Set-up is all that comes before the first step, of an operator that
is already made. Memory is the most bytes of tensors alive in a run with the network, over the most in the same calls
and products alone.

    python benchmarks/solvers.py          # prints the table, writes benchmarks/data/solvers.json, 1 if a bar is missed
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import sfumato as sf
from sfumato import operators as ops
from sfumato.denoisers import Denoiser, Estimate
from sfumato.operators import Measurement, kernels
from sfumato.recipes.edm import Recipe
from sfumato.solvers import DDNM, DDRM, DPS, MMPS, DiffPIR, PiGDM, Solver
from sfumato.zoo.memory import Live

EVENT, BATCH, STEPS, ROUNDS = (3, 64, 64), 4, 20, 15
SETUP, MEMORY = 1e-3, 1.05  # bars: seconds, ratio


class Half(Denoiser):
    """D = x / 2: a denoiser that costs nothing."""

    process = sf.processes.Table.linear()

    def forward(self, xt: Tensor, t: float, cond: object = None) -> Estimate:
        return Estimate(0.5 * xt)


class Case(NamedTuple):
    """A solver on an operator, how many products with the Jacobian a step takes, and the largest ratio allowed."""

    solver: Solver
    operator: ops.Operator
    products: int
    bar: float
    sigma: float = 0.05


def cases() -> dict[str, Case]:
    """Every method on the operators of its paper."""
    mask = ops.Mask.random(EVENT[1:], 0.5, sf.Noise(0))
    pool, gray = ops.Downsample(4), ops.Gray()
    blur = ops.Blur.gaussian(EVENT[1:])
    thin = ops.DecimatedBlur(kernels.motion(sf.Noise(1), 31), EVENT[1:], 4)
    cubic = ops.Downsample.bicubic(4, EVENT[1:])
    return {
        "DDRM mask": Case(DDRM(STEPS), mask, 0, 1.03),
        "DDRM pool": Case(DDRM(STEPS), pool, 0, 1.03),
        "DDRM bicubic": Case(DDRM(STEPS), cubic, 0, 1.03),
        "DDRM blur": Case(DDRM(STEPS), blur, 0, 1.03),
        "DDNM mask": Case(DDNM(STEPS), mask, 0, 1.03, 0.0),
        "DDNM pool": Case(DDNM(STEPS), pool, 0, 1.03, 0.0),
        "DDNM+ gray": Case(DDNM(STEPS), gray, 0, 1.03),
        "DPS mask": Case(DPS(STEPS), mask, 1, 1.03),
        "DPS blur": Case(DPS(STEPS), blur, 1, 1.03),
        "PiGDM pool": Case(PiGDM(STEPS), pool, 1, 1.03),
        "PiGDM blur": Case(PiGDM(STEPS), blur, 1, 1.03),
        "DiffPIR blur": Case(DiffPIR(STEPS), blur, 0, 1.05),
        "DiffPIR blur, every 4th": Case(DiffPIR(STEPS), thin, 0, 1.05),
        "DiffPIR mask": Case(DiffPIR(STEPS), mask, 0, 1.05),
        "MMPS pool": Case(MMPS(STEPS, iterations=1), pool, 1, 1.5),
        "MMPS blur": Case(MMPS(STEPS, iterations=1), blur, 1, 1.5),
    }


def network() -> Denoiser:
    """A U-Net of two levels, some 0.5 million weights, on the process of the trivial denoiser."""
    torch.manual_seed(0)
    inner = Recipe(widths=(32, 64), blocks=1).model().requires_grad_(False)
    return inner.with_process(Half.process)


def seconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median processor seconds of a call, after one that does not count."""
    call()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def products(denoiser: Denoiser, x: Tensor, n: int) -> None:
    """One call of the denoiser and n products with its Jacobian."""
    if n == 0:
        with torch.no_grad():
            denoiser(x, 0.5)
        return
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        mean = denoiser(leaf, 0.5).mean
        for k in range(n):
            torch.autograd.grad(mean, leaf, x, retain_graph=k < n - 1)


def peak(call: Callable[[], object]) -> int:
    """Most bytes of tensors alive in a call."""
    with Live() as live:
        call()
    return live.peak


def measure(case: Case, net: Denoiser, floors: dict[int, float]) -> dict[str, float]:
    """The ratio, the set-up and the memory of one case."""
    x0 = sf.Noise(0).normal(torch.empty(BATCH, *EVENT))
    m = Measurement.simulate(case.operator, x0, sigma=case.sigma, noise=sf.Noise(1))
    half, noise = Half(), sf.Noise(2)
    steps = len(case.solver.times(half.process)) - 1
    setup = seconds(lambda: next(case.solver.trajectory(half, m, noise)))
    # the start draws the prior, as it must: what a draw takes is not set-up
    setup -= seconds(lambda: noise.normal(x0))
    run = seconds(lambda: case.solver(half, m, noise))
    own = max((run - max(setup, 0.0)) / steps - seconds(lambda: products(half, x0, case.products)), 0.0)
    floor = floors[case.products]
    short = replace(case.solver, steps=3)
    used = peak(lambda: list(islice(short.trajectory(net, m, noise), 3)))
    least = peak(lambda: products(net, x0, case.products))
    return {
        "step_us": own * 1e6,
        "network_us": floor * 1e6,
        "ratio": (own + floor) / floor,
        "setup_ms": setup * 1e3,
        "memory": used / (least + 4 * x0.numel()),
    }


def main() -> int:
    """Prints and writes the table; 1 if a bar is missed."""
    torch.set_num_threads(1)
    net = network()
    x = sf.Noise(0).normal(torch.empty(BATCH, *EVENT))
    floors = {n: seconds(lambda n=n: products(net, x, n)) for n in (0, 1)}
    rows, missed = {}, 0
    print(f"{'case':24} {'step us':>8} {'net us':>8} {'ratio':>6} {'bar':>5} {'set-up ms':>9} {'memory':>6}")
    for name, case in cases().items():
        row = measure(case, net, floors)
        judged = row["ratio"]
        ok = judged <= case.bar and row["setup_ms"] <= 1e3 * SETUP and row["memory"] <= MEMORY
        missed += not ok
        rows[name] = {**row, "bar": case.bar, "ok": ok}
        print(
            f"{name:24} {row['step_us']:8.0f} {row['network_us']:8.0f} {judged:6.3f} {case.bar:5} "
            f"{row['setup_ms']:9.2f} {row['memory']:6.3f} {'ok' if ok else 'MISSED'}",
            flush=True,
        )
    content = {"event": EVENT, "batch": BATCH, "threads": 1, "cases": rows}
    (Path(__file__).parent / "data" / "solvers.json").write_text(json.dumps(content, indent=1) + "\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
