"""Error against calls of the denoiser, on data with a known flow: what the default sampler and grid are chosen by.

Four worlds (8 modes in 2 and in 64 dimensions, a correlated normal law in 16, two narrow modes), six processes. The
error is the root mean square over starts of the distance |x - x*| to the end x* of the exact flow from the same start;
beside it the sliced Wasserstein distance between the two sets of ends. Float64, one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato import grids, samplers
from sfumato import processes as P
from sfumato.metrics import sliced_wasserstein
from sfumato.noise import Noise
from sfumato.samplers import sample
from sfumato.worlds import GaussianWorld, MixtureWorld

CALLS = (4, 5, 6, 8, 10, 15, 20, 32, 50, 64, 128, 256)


def processes() -> dict[str, P.Gaussian]:
    """The forward processes, by name."""
    return {
        "LinearBeta": P.LinearBeta(),
        "Table": P.Table.linear(),
        "Cosine": P.Cosine(),
        "Rectified": P.Rectified(),
        "EDM": P.EDM(),
        "Geometric": P.Geometric(),
    }


class Rival(NamedTuple):
    """A sampler on a grid: name, sampler, (process, steps) to times."""

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
        "modes-2": MixtureWorld(
            torch.ones(8, dtype=torch.float64),
            torch.stack([turn.cos(), turn.sin()], 1),
            0.01 * eye[:2, :2].repeat(8, 1, 1),
        ),
        "modes-64": MixtureWorld(
            torch.ones(8, dtype=torch.float64),
            0.25 * Noise(0).normal(torch.zeros(8, 64, dtype=torch.float64)),
            0.126**2 * eye.repeat(8, 1, 1),
        ),
        "correlated-16": GaussianWorld(torch.zeros(16, dtype=torch.float64), Q @ torch.diag(spread) @ Q.T),
        "narrow-1": MixtureWorld(
            torch.tensor([0.3, 0.7], dtype=torch.float64),
            torch.tensor([[-0.9], [0.4]], dtype=torch.float64),
            torch.full((2, 1, 1), 1e-4, dtype=torch.float64),
        ),
    }


def truth(world: MixtureWorld, process: P.Gaussian, x1: Tensor) -> Tensor:
    """The end of the exact flow from x1 at t = 1 to t = 0, (B, d).

    The flow needs finite log SNR: it starts where sigma / alpha is 10^4 at most (above, D is the mean of the data) and
    ends where it is 10^-4 at least, with one call more if the process goes on to sigma = 0.
    """
    top, bottom = process.time_of(-2 * math.log(1e4)), process.time_of(2 * math.log(1e4))
    D = world.denoiser(process)
    x = process.reverse(D(x1, 1.0)._replace(var=None), x1, 1.0, top, 0.0).mean if top < 1.0 else x1
    x = world.flow(x, top, bottom, process, steps=600)
    return D(x, bottom).mean if process.sigma(0.0) == 0.0 else x


def rows(
    names: Sequence[str], kinds: Sequence[str], calls: Sequence[int] = CALLS, starts: int = 64
) -> Iterator[dict[str, Any]]:
    """One row for each world, process, rival and number of calls: world, process, sampler, nfe, rms, sliced.

    Args:
        names, kinds: keys of `worlds` and of `processes`.
        starts: rows of each run.
    """
    for name in names:
        world = worlds()[name]
        for kind in kinds:
            process = processes()[kind]
            D = world.denoiser(process)
            x1 = process.prior(torch.zeros(starts, *world.event, dtype=torch.float64)).sample(Noise(1))
            end = truth(world, process, x1)
            for rival in RIVALS:
                for n in calls:
                    x = sample(D, rival.sampler, x1=x1, times=_grid(rival, process, n), noise=Noise(0))
                    error = float((x - end).square().sum(1).mean().sqrt())
                    sliced = sliced_wasserstein(x, end, noise=Noise(9))
                    yield {
                        "world": name,
                        "process": kind,
                        "sampler": rival.name,
                        "nfe": n,
                        "rms": error,
                        "sliced": sliced,
                    }


def _grid(rival: Rival, process: P.Gaussian, n: int) -> tuple[float, ...]:
    """n steps: Karras' grid on a process that keeps its last noise has one step less than its number."""
    times = rival.grid(process, n)
    return times if len(times) == n + 1 else rival.grid(process, n + 1)


def draw(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Error against calls, one panel for each world, the first process of the table.

    Raises:
        ImportError: without matplotlib, naming the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the figure needs matplotlib: pip install 'sfumato[plot]'.") from error
    names = list(dict.fromkeys(row["world"] for row in table))
    figure = Figure(figsize=(4 * len(names), 3.5), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1, xscale="log", yscale="log", title=name, xlabel="calls")
        for rival in RIVALS:
            here = [r for r in table if r["world"] == name and r["process"] == table[0]["process"]]
            line = [(r["nfe"], r["rms"]) for r in here if r["sampler"] == rival.name]
            axes.plot(*zip(*line, strict=True), label=rival.name, lw=2 if rival is RIVALS[0] else 1)
    axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
