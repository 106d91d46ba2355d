"""Error against calls of the denoiser, on data with a known flow: what the default sampler and grid are chosen by.

    python benchmarks/samplers.py [--rows 64] [--nfe 4 5 ...] [--csv FILE] [--figure FILE]

Four worlds (8 modes in 2 and in 64 dimensions, a correlated normal law in 16, two narrow modes), five processes. The
error is the root mean square over starts of the distance |x - x*| to the end x* of the exact flow from the same start,
and the sliced Wasserstein distance between the two sets of ends. Float64, one thread, minutes.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato import GaussianWorld, MixtureWorld, Noise, grids, processes, sample, samplers

CALLS = (4, 5, 6, 8, 10, 15, 20, 32, 50, 64, 128, 256)
# The best of other libraries at these calls (DPM-Solver++ 2M on a log-SNR grid), by dimension, on worlds like these.
PEERS = {2: {5: 0.134, 10: 0.046, 20: 0.016, 50: 0.0038}, 64: {5: 0.485, 10: 0.298, 20: 0.150, 50: 0.0054}}
PROCESSES = {
    "LinearBeta": processes.LinearBeta(),
    "Cosine": processes.Cosine(),
    "Rectified": processes.Rectified(),
    "EDM": processes.EDM(),
    "Geometric": processes.Geometric(),
}


class Rival(NamedTuple):
    name: str
    sampler: samplers.Sampler
    grid: Callable[[Any, int], tuple[float, ...]]


RIVALS = (
    Rival("Arc, default grid", samplers.Arc(), grids.default),
    Rival("DDIM, default grid", samplers.DDIM(), grids.default),
    Rival("2M, default grid", samplers.DPMpp2M(), grids.default),
    Rival("UniPC-3, default grid", samplers.UniPC(), grids.default),
    Rival("DDIM, log-SNR grid", samplers.DDIM(), grids.log_snr),
    Rival("2M, log-SNR grid", samplers.DPMpp2M(), grids.log_snr),
    Rival("3M, log-SNR grid", samplers.DPMpp3M(), grids.log_snr),
    Rival("UniPC-2, log-SNR grid", samplers.UniPC(2), grids.log_snr),
    Rival("2M, Karras grid", samplers.DPMpp2M(), grids.karras),
)


def worlds() -> dict[str, MixtureWorld]:
    """Data of known flow, float64."""
    turn = torch.arange(8, dtype=torch.float64) * math.pi / 4
    eye = torch.eye(64, dtype=torch.float64)
    spread = torch.logspace(0, -4, 16, dtype=torch.float64)
    Q, _ = torch.linalg.qr(Noise(5).normal(torch.zeros(16, 16, dtype=torch.float64)))
    return {
        "8 modes, d = 2": MixtureWorld(
            torch.ones(8, dtype=torch.float64),
            torch.stack([turn.cos(), turn.sin()], 1),
            0.01 * eye[:2, :2].repeat(8, 1, 1),
        ),
        "8 modes, d = 64": MixtureWorld(
            torch.ones(8, dtype=torch.float64),
            0.25 * Noise(0).normal(torch.zeros(8, 64, dtype=torch.float64)),
            0.126**2 * eye.repeat(8, 1, 1),
        ),
        "correlated, d = 16": GaussianWorld(torch.zeros(16, dtype=torch.float64), Q @ torch.diag(spread) @ Q.T),
        "2 narrow modes, d = 1": MixtureWorld(
            torch.tensor([0.3, 0.7], dtype=torch.float64),
            torch.tensor([[-0.9], [0.4]], dtype=torch.float64),
            torch.full((2, 1, 1), 1e-4, dtype=torch.float64),
        ),
    }


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """Root mean square over directions of the 2-Wasserstein distance of the projections."""
    u = torch.nn.functional.normalize(Noise(9).normal(a.new_zeros(a.shape[1], directions)), dim=0)
    gap = (a @ u).sort(0).values - (b @ u).sort(0).values
    return float(gap.square().mean().sqrt())


def truth(world: MixtureWorld, process: processes.Gaussian, x1: Tensor) -> Tensor:
    """The end of the exact flow from x1 at t = 1 to t = 0, (B, d).

    The flow needs finite log SNR: it starts where sigma / alpha is 10^4 at most (above, D is the mean of the data) and
    ends where it is 10^-4 at least, with one call more if the process goes on to sigma = 0.
    """
    top, bottom = process.time_of(-2 * math.log(1e4)), process.time_of(2 * math.log(1e4))
    D = world.denoiser(process)
    x = process.reverse(D(x1, 1.0)._replace(var=None), x1, 1.0, top, 0.0).mean if top < 1.0 else x1
    x = world.flow(x, top, bottom, process, steps=600)
    return D(x, bottom).mean if process.sigma(0.0) == 0.0 else x


def rows(calls: tuple[int, ...], batch: int, only: list[str]) -> Iterator[dict[str, Any]]:
    """One row for each world, process, rival and number of calls."""
    for world_name, world in worlds().items():
        for process_name, process in PROCESSES.items():
            if only and process_name not in only:
                continue
            D = world.denoiser(process)
            x1 = process.prior(torch.zeros(batch, *world.event, dtype=torch.float64)).sample(Noise(1))
            end = truth(world, process, x1)
            for rival in RIVALS:
                for n in calls:
                    x = sample(D, rival.sampler, x1=x1, times=_grid(rival, process, n), noise=Noise(0))
                    error = float((x - end).square().sum(1).mean().sqrt())
                    yield {
                        "world": world_name,
                        "process": process_name,
                        "sampler": rival.name,
                        "nfe": n,
                        "rms": error,
                        "sliced": sliced_wasserstein(x, end),
                    }


def _grid(rival: Rival, process: processes.Gaussian, n: int) -> tuple[float, ...]:
    """n steps: Karras' grid on a process that keeps its last noise has one step less than its number."""
    times = rival.grid(process, n)
    return times if len(times) == n + 1 else rival.grid(process, n + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=64, help="starts of each run")
    parser.add_argument("--nfe", type=int, nargs="+", default=list(CALLS))
    parser.add_argument("--process", nargs="*", default=[], choices=list(PROCESSES), help="all by default")
    parser.add_argument("--csv", help="write every row here")
    parser.add_argument("--figure", help="draw error against calls here (needs matplotlib)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = []
    for row in rows(tuple(args.nfe), args.rows, args.process):
        if row["nfe"] == args.nfe[0]:
            if row["sampler"] == RIVALS[0].name:
                print(f"\n\n{row['world']}, {row['process']}: RMS distance to the exact end, by calls")
                print(f"{'':24}" + "".join(f"{n:9d}" for n in args.nfe), end="")
            print(f"\n{row['sampler']:24}", end="")
        print(f"{row['rms']:9.5f}", end="", flush=True)
        table.append(row)
    print()
    for d, best in PEERS.items():
        print(f"best of other libraries, 8 modes, d = {d}: " + ", ".join(f"{n}: {e}" for n, e in best.items()))
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    if args.figure:
        draw(table, args.figure)


def draw(table: list[dict[str, Any]], path: str) -> None:
    """One panel for each world, the first process run."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        sys.exit("--figure needs matplotlib: pip install 'sfumato[plot]'")
    names = list(dict.fromkeys(row["world"] for row in table))
    figure = Figure(figsize=(4 * len(names), 3.5), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1, xscale="log", yscale="log", title=name, xlabel="calls")
        for rival in RIVALS:
            here = [r for r in table if r["world"] == name and r["process"] == table[0]["process"]]
            line = [(r["nfe"], r["rms"]) for r in here if r["sampler"] == rival.name]
            axes.plot(*zip(*line, strict=True), label=rival.name, lw=2 if rival is RIVALS[0] else 1)
    axes.legend(fontsize=7)
    figure.savefig(path)


if __name__ == "__main__":
    main()
