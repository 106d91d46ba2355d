"""How far a solver's samples are from the exact posterior: one row of figures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.bench.worlds import Instance
from sfumato.metrics import coverage, sliced_wasserstein
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.worlds import MixtureWorld


@dataclass(frozen=True)
class Figure:
    """A number and its standard error over the measurements."""

    value: float
    error: float


@dataclass(frozen=True)
class Row:
    """A solver against the posterior, over n measurements with S samples each.

    Attributes:
        mean: |mean - m*| / sqrt(tr C*), averaged; exact samples have about sqrt(1 / S).
        seen, hidden: tr(P Cov) / tr(P C*) for P the projection on what A sees, and on the rest: medians; 1 is right.
        sliced: sliced 2-Wasserstein distance to as many exact samples over sqrt(tr C* / d), averaged.
        weights: total variation between the mean responsibilities of the samples and the posterior's weights, averaged;
            0 where there is one component.
        half, most: share of the true x_0's numbers inside the central 50 % and 90 % intervals.
    """

    mean: Figure
    seen: Figure
    hidden: Figure
    sliced: Figure
    weights: Figure
    half: Figure
    most: Figure

    def plain(self) -> dict[str, Any]:
        """The figures as numbers and dicts, rounded to four places."""
        return {name: {k: round(v, 4) for k, v in figure.items()} for name, figure in asdict(self).items()}


def row(instance: Instance, x0: Tensor, m: Measurement, samples: Tensor, *, noise: Noise) -> Row:
    """The figures of samples against the posterior of each measurement.

    Args:
        x0: what was measured, (n, d).
        samples: of each y, (S, n, d).
        noise: draws the exact samples that the distance compares with, and its directions.
    """
    seen = instance.seen
    hidden, world = torch.eye(len(seen), dtype=seen.dtype) - seen, instance.world
    found: list[list[float]] = []
    for i in range(len(m)):
        truth, x = posterior(instance, m, i), samples[:, i]
        cov, mean, spread = torch.cov(x.T), x.mean(0), float(truth.cov.trace())
        ratios = ((part @ cov).trace() / (part @ truth.cov).trace() for part in (seen, hidden))
        distance = sliced_wasserstein(x, truth.sample(len(x), noise), noise=noise)
        shares = world.responsibilities(x).mean(0) - truth.weights
        found.append(
            [
                float((mean - truth.mean).norm()) / math.sqrt(spread),
                *map(float, ratios),
                distance / math.sqrt(spread / x.shape[1]),
                0.5 * float(shares.abs().sum()),
            ]
        )
    cells = [*torch.tensor(found, dtype=torch.float64).T, *(coverage(samples, x0, level=l) for l in (0.5, 0.9))]
    return Row(*(_middle(cell, median=i in (1, 2)) for i, cell in enumerate(cells)))


def posterior(instance: Instance, m: Measurement, i: int) -> MixtureWorld:
    """The law of x_0 given the i-th y."""
    return instance.world.posterior(Measurement(m.operator, m.y[i : i + 1], m.sigma))


def exact(instance: Instance, m: Measurement, samples: int, *, noise: Noise) -> Tensor:
    """Samples of each posterior, (S, n, d): their row is the floor of every other."""
    return torch.stack([posterior(instance, m, i).sample(samples, noise) for i in range(len(m))], 1)


def _middle(values: Tensor, *, median: bool) -> Figure:
    """Mean or median of figures of single measurements, (n,), with its standard error.

    That of a median is taken as sqrt(pi / 2) times that of the mean, as of normal figures.
    """
    value = float(values.median() if median else values.mean())
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Figure(value, error * (math.sqrt(math.pi / 2) if median else 1.0))
