"""What a sampler step costs beside the network: ours over a hand-written loop, in one run.

The network is left out (it returns a fixed tensor), so what is timed is the library. A hand-written loop has its
coefficients computed beforehand, the fewest tensor operations we know inside and a plain function for a network. Each
round times both, in turn, by the processor's clock on one thread; the ratio of the medians is compared with a bar.
Run: `make bench`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

import sfumato as sf
from sfumato.denoisers import Counted, Denoiser, Estimate
from sfumato.processes import Gaussian, Process
from sfumato.samplers import Sampler, Times

STEPS, ROUNDS = 100, 31
EVENT = (3, 32, 32)


class Free(Denoiser):
    """A denoiser that costs nothing: the same estimate whatever it is asked."""

    def __init__(self, mean: Tensor, process: Process) -> None:
        super().__init__()
        self.estimate, self.process = Estimate(mean), process

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        return self.estimate


Net = Callable[[Tensor], Tensor]


def ddim(process: Gaussian, times: Sequence[float]) -> Callable[[Net, Tensor], Tensor]:
    """x <- k_x x + k_D D."""
    weights = [process.weights(t, s, 0.0)[:2] for t, s in pairwise(times)]

    def loop(net: Net, x: Tensor) -> Tensor:
        for k_x, k_D in weights:
            x = torch.add(k_x * x, net(x), alpha=k_D)
        return x

    return loop


def ancestral(process: Gaussian, times: Sequence[float]) -> Callable[[Net, Tensor], Tensor]:
    """x <- k_x x + k_D D + std z; no noise in the last step, whose std is 0."""
    weights = [process.weights(t, s, 1.0)[:3] for t, s in pairwise(times)]

    def loop(net: Net, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        for k_x, k_D, std in weights:
            x = torch.add(k_x * x, net(x), alpha=k_D)
            if std:
                x = torch.add(x, torch.randn(x.shape, generator=generator), alpha=std)
        return x

    return loop


def multistep(process: Gaussian, times: Sequence[float]) -> Callable[[Net, Tensor], Tensor]:
    """DPM-Solver++ 2M: DDIM with D + w (D - D_last) for D."""
    half = [0.5 * process.log_snr(t) for t in times]
    rows = []
    for i, (t, s) in enumerate(pairwise(times)):
        finite = 0 < i < len(times) - 2 and half[i - 1] > -float("inf")
        w = min(0.5 * (half[i + 1] - half[i]) / (half[i] - half[i - 1]), 1.0) if finite else 0.0
        rows.append((*process.weights(t, s, 0.0)[:2], w))

    def loop(net: Net, x: Tensor) -> Tensor:
        last = x
        for k_x, k_D, w in rows:
            D = net(x)
            target = D.lerp(last, -w) if w else D
            x, last = torch.add(k_x * x, target, alpha=k_D), D
        return x

    return loop


def heun(process: Gaussian, times: Sequence[float]) -> Callable[[Net, Tensor], Tensor]:
    """A DDIM step and the trapezoid's correction; first order where sigma_s = 0."""
    rows = []
    for t, s in pairwise(times):
        k_x, k_D, _, _ = process.weights(t, s, 0.0)
        level_t, level_s = (process.sigma(u) / process.alpha(u) for u in (t, s))
        rows.append((k_x, k_D, 0.5 * process.alpha(s) * (level_t / level_s - 1.0) if level_s else 0.0))

    def loop(net: Net, x: Tensor) -> Tensor:
        for k_x, k_D, k in rows:
            D = net(x)
            x = torch.add(k_x * x, D, alpha=k_D)
            if k:
                x = torch.add(x, net(x) - D, alpha=k)
        return x

    return loop


def euler(process: Gaussian, times: Sequence[float]) -> Callable[[Net, Tensor], Tensor]:
    """v = a x + b D, x <- x + dt v."""
    rows = []
    for t, s in pairwise(times):
        d_alpha, d_sigma = process.rates(t)
        rate = d_sigma / process.sigma(t)
        rows.append((rate, d_alpha - rate * process.alpha(t), s - t))

    def loop(net: Net, x: Tensor) -> Tensor:
        for a, b, dt in rows:
            x = torch.add(x, torch.add(a * x, net(x), alpha=b), alpha=dt)
        return x

    return loop


class Case(NamedTuple):
    """A sampler, its hand-written loop, and the largest ratio allowed at batch 1 and 32 (None: reported only)."""

    sampler: Sampler
    by_hand: Callable[[Gaussian, Sequence[float]], Callable[[Net, Tensor], Tensor]]
    bars: tuple[float | None, float | None]


CASES = {
    "DDIM": Case(sf.samplers.DDIM(), ddim, (3.0, 1.5)),
    "Ancestral": Case(sf.samplers.Ancestral(), ancestral, (None, 1.2)),
    "DPMpp2M": Case(sf.samplers.DPMpp2M(), multistep, (None, 1.5)),
    "Heun": Case(sf.samplers.Heun(), heun, (None, 1.5)),
    "Euler": Case(sf.samplers.Euler(), euler, (None, 1.5)),
}


def rest() -> dict[str, Sampler]:
    """The other samplers that go from noise to data by themselves, with their own defaults: reported, without a bar.

    Left out: `Consistency` and `CAS`, for denoisers of their own, and wrappers (`Blend`, `Chain`, `Held`, `Overwrite`).
    """
    s = sf.samplers
    names = ("Arc", "DPMpp2S", "DPMpp3M", "DPMpp3S", "UniPC", "EulerMaruyama", "ReverseDiffusion")
    return {name: getattr(s, name)() for name in names}


def by_call(sampler: Sampler, batch: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """Median processor seconds a step, and how many times a step of the hand-written DDIM that is for each call of the
    network."""
    process = sf.processes.LinearBeta()
    times = sf.grids.log_snr(process, STEPS)[1:-1]  # an SDE has no drift at the ends
    x1, D = (sf.Noise(seed).normal(torch.empty(batch, *EVENT)) for seed in (0, 1))
    counted, by_hand = Counted(Free(D, process)), ddim(process, times)
    ours(counted, sampler, x1, times)
    calls = counted.calls / (len(times) - 1)
    a = statistics.median(seconds(lambda: ours(counted.inner, sampler, x1, times)) for _ in range(rounds))
    with torch.no_grad():
        b = statistics.median(seconds(lambda: by_hand(lambda x: D, x1)) for _ in range(rounds))
    return a / (len(times) - 1), a / (b * calls)


def ours(denoiser: Denoiser, sampler: Sampler, x1: Tensor, times: Times) -> Tensor:
    """The library's own loop; only the last state is kept."""
    steps = sf.trajectory(denoiser, sampler, x1, times, sf.Noise(0))
    return deque(steps, maxlen=1)[0].x


def seconds(call: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(case: Case, batch: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """Median processor seconds a step: (ours, by hand), timed in turn."""
    process = sf.processes.LinearBeta()
    times = sf.grids.log_snr(process, STEPS)
    x1, D = (sf.Noise(seed).normal(torch.empty(batch, *EVENT)) for seed in (0, 1))
    denoiser, by_hand = Free(D, process), case.by_hand(process, times)

    def run_ours() -> Tensor:
        return ours(denoiser, case.sampler, x1, times)

    @torch.no_grad()
    def run_by_hand() -> Tensor:
        return by_hand(lambda x: D, x1)

    gap = float((run_ours() - run_by_hand()).abs().max())
    if not gap < 1e-3:
        raise AssertionError(f"the hand-written loop computes something else: largest difference {gap:.3g}.")
    pairs = [(seconds(run_ours), seconds(run_by_hand)) for _ in range(rounds)]
    a, b = (statistics.median(column) / STEPS for column in zip(*pairs, strict=True))
    return a, b


def main() -> int:
    """Prints the table; 1 if a bar is missed."""
    torch.set_num_threads(1)
    missed = 0
    print(f"{'sampler':10} {'batch':>5} {'ours us':>8} {'by hand':>8} {'ratio':>6} {'bar':>5}")
    for name, case in CASES.items():
        for batch, bar in zip((1, 32), case.bars, strict=True):
            a, b = compare(case, batch)
            verdict = "" if bar is None else ("ok" if a / b <= bar else "MISSED")
            missed += verdict == "MISSED"
            print(f"{name:10} {batch:5} {a * 1e6:8.1f} {b * 1e6:8.1f} {a / b:6.2f} {bar or '':>5} {verdict}")
    print(f"\n{'sampler':18} {'batch':>5} {'ours us':>8} {'over DDIM by hand, a call':>26}")
    for name, sampler in rest().items():
        for batch in (1, 32):
            a, ratio = by_call(sampler, batch, rounds=7)
            print(f"{name:18} {batch:5} {a * 1e6:8.1f} {ratio:26.2f}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
