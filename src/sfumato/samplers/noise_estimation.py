"""Noise estimation: the rest of the schedule follows the noise found (San-Roman et al. 2021, 2104.02600)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers.base import Sampler

EXAMPLE = """\
python -c 'import torch, sfumato as sf; P = sf.processes.Table.linear()
D = sf.GaussianWorld(torch.zeros(64), torch.eye(64) * 0.04).denoiser(P)
betas = tuple(float(b) for b in torch.logspace(-4, -0.3, 8))
level = lambda x: ((1 - x.square().mean(1)) / 0.96).clamp(1e-4, 1)
S = sf.recipes.load("noise-estimation").Recipe(level, betas)  # the level by the variance; else a network
x = sf.sample(D, S, shape=(99, 64), times=sf.grids.uniform(8), noise=sf.Noise(0)); print(x.std())'"""

Estimator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class NoiseEstimation(Sampler):
    """Steps of `process.reverse` whose remaining betas are refitted, per sample, to the noise level that is found.

    After the step that leaves n betas, a^ = estimator(x) is what their product should be, prod (1 - beta_i) = a^:

        linear:     beta_1 kept, beta_i = beta_1 + (i - 1) k, k fitted;
        fibonacci:  beta_1 = beta_2 = b, beta_{i+2} = beta_{i+1} + beta_i, b fitted.

    The schedule is its own: memory holds the betas that remain, (n, B), the last one next, and the levels follow from
    them. The times of the run's grid only count, one for each of `betas` and one more (`grids.uniform(len(betas))`),
    and the start is at prod (1 - beta_i), the prior's level or near it. a^ is held where betas lie in (0, 1).

    Args:
        estimator: x (B, *event) to alpha^2 of its level, (B,); trained on |log(1 - alpha^2) - log(1 - a^)|, or from a
            moment of known data.
        betas: the schedule to begin with, rising, of a variance-preserving process.
        refit: "linear" or "fibonacci".
        every: refit after each `every`-th step; the paper's set of steps, all by default.
        eta: 1 ancestral (speech), 0 deterministic (images).

    Source: San-Roman et al. 2021 (2104.02600) section 4, algorithms 3 to 5.
    """

    estimator: Estimator
    betas: tuple[float, ...]
    refit: str = "linear"
    every: int = 1
    eta: float = 1.0

    def __post_init__(self) -> None:
        if self.refit not in ("linear", "fibonacci"):
            raise ValueError(f"refit is 'linear' or 'fibonacci', got {self.refit!r}.")
        if not self.betas or not all(0.0 < beta < 1.0 for beta in self.betas) or self.every < 1:
            raise ValueError(f"betas lie in (0, 1) and every is at least 1, got {self.betas} and {self.every}.")

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return torch.tensor(self.betas, dtype=torch.float64, device=xt.device)[:, None].expand(-1, xt.shape[0])

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process, betas = denoiser.process, memory
        assert isinstance(process, Gaussian)
        if len(betas) == 0:
            raise ValueError(f"the {len(self.betas)} betas are used up: the run's grid has more steps than that.")
        now, rest = _time(process, betas), betas[:-1]
        then = _time(process, rest)
        xs = process.reverse(denoiser(xt, now), xt, now, then, self.eta).sample(noise)
        if len(rest) and (len(self.betas) - len(rest)) % self.every == 0:
            rest = refitted(self.estimator(xs).double(), len(rest), self.betas[0], self.refit)
        return xs, rest


def refitted(level: Tensor, count: int, first: float, kind: str = "linear") -> Tensor:
    """`count` betas with prod (1 - beta_i) = level for each of (B,), as `NoiseEstimation` has them; (count, B).

    A level outside what such betas reach gives the nearest; a single beta is 1 - level.
    """
    if kind == "fibonacci" or count == 1:
        shape = [1.0, 1.0]
        while len(shape) < count:
            shape.append(shape[-1] + shape[-2])
        rise, base = torch.tensor(shape[:count], dtype=torch.float64), 0.0
    else:
        rise, base = torch.arange(count, dtype=torch.float64), first
    rise = rise.to(level.device)[:, None]
    low, high = torch.zeros_like(level), torch.full_like(level, (1.0 - base) / float(rise[-1, 0]))
    target = level.clamp(1e-12, 1.0 - 1e-12).log()
    for _ in range(64):
        middle = 0.5 * (low + high)
        above = torch.log1p(-(base + rise * middle)).sum(0) > target
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return base + rise * low


def _time(process: Gaussian, betas: Tensor) -> Tensor:
    """The times, (B,), at which alpha^2 is the product of 1 - beta; 0 without any."""
    if len(betas) == 0:
        return torch.zeros(betas.shape[1], dtype=torch.float64, device=betas.device)
    log = torch.log1p(-betas).sum(0)
    time: Tensor = process.time_of(log - torch.log(-torch.expm1(log)))
    return time


Recipe = NoiseEstimation
