"""Symbolic music generation with diffusion models (Mittal et al. 2021, 2103.16091)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.base import Wrapper
from sfumato.estimate import Estimate
from sfumato.laws import Law
from sfumato.nets.melody import BarTransformer
from sfumato.noise import Noise
from sfumato.operators import Mask, Measurement
from sfumato.processes import Coefficient, Process, Table, Time
from sfumato.processes.variances import small
from sfumato.samplers import Ancestral, Overwrite
from sfumato.training import Denoising, eps_weight

EXAMPLE = "sfumato train TUNES --size 128 -o run && sfumato sample run -o tunes   # a folder of .abc or .mid files"


@dataclass(frozen=True)
class Continuous:
    """alpha uniform between two neighbours of 1, alpha_1 .. alpha_N, each of the N intervals alike.

    Source: Chen et al. 2020 (2009.00713) section 2.2 and algorithm 1.
    """

    bars: tuple[float, ...]

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        assert isinstance(process, Table)
        ends = torch.tensor((1.0, *self.bars), dtype=torch.float64).sqrt()
        u = noise.uniform(torch.empty(batch, 2, dtype=torch.float64))
        pair = (u[:, 0] * (len(ends) - 1)).long()
        alpha = ends[pair + 1] + u[:, 1] * (ends[pair] - ends[pair + 1])
        times: Tensor = process.time_of(torch.logit(alpha**2))
        return times


def clipped(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Law:
    """The step of variance btilde with D held to [-1, 1]."""
    return small(process, Estimate(estimate.mean.clamp(-1.0, 1.0)), xt, t, s, floor)


class Melodic(Wrapper):
    """The denoiser, and what `sf.Model` draws from it with."""

    def __init__(self, inner: Denoiser, recipe: Recipe) -> None:
        super().__init__(inner)
        self.recipe = recipe

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.inner(xt, t, cond)

    def drawing(self) -> tuple[Ancestral, tuple[float, ...]]:
        """The recipe's sampler and its times."""
        return self.recipe.sampler(), self.recipe.times()


@dataclass(frozen=True)
class Recipe:
    """A chain on the latents of bars, whole melodies at once: a network that is told alpha, uniform between levels.

        L = E |eps - eps_hat(alpha z_0 + sigma eps, alpha)|^2,   alpha ~ U(alpha_n, alpha_{n-1}), n uniform,
        z_{n-1} ~ q(z_{n-1} | z_n, clip(D, -1, 1)),   infilling: known bars <- alpha_{n-1} z_0 + sigma_{n-1} eps.

    Latents are (B, code, bars), each number scaled to [-1, 1] by its range over the training bars: draws beyond that
    are cut. `infill` overwrites what is known at the level where the step ends (the code: where it begins), so
    that it ends exact; as all replacement it is biased: the rest knows what is kept through noisy copies alone.

    The code of a bar is the principal components of its 16 sixteenth notes (`codecs.Bars`), in place of MusicVAE on two
    bars (ours): it is part of the saved codec, which components are kept too. Adam at 1e-3, batches of 64, 500,000
    steps, 32 latents of 42 numbers are the paper's.

    Source: Mittal et al. 2021 (2103.16091) section 3, algorithm 1; public code.
    """

    takes: ClassVar[str] = "tunes"  # the data that `sfumato train` reads for it

    code: int = 42  # numbers of a latent
    width: int = 128
    layers: int = 6
    heads: int = 8
    feed: int = 2048
    hidden: int = 2048
    steps: int = 1000  # N
    first: float = 1e-6  # beta_1
    last: float = 0.01  # beta_N

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.steps, self.first, self.last)

    def model(self) -> Melodic:
        """The untrained denoiser."""
        net = BarTransformer(self.code, self.width, self.layers, self.heads, self.feed, self.hidden)
        process = self.process()
        return Melodic(Preconditioned(net, process, predict_eps, clock=process.alpha), self)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The loss on latents (B, code, bars), a mean over them."""
        return Denoising(denoiser, Continuous(self.process().alpha_bars), eps_weight)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the clipped estimate."""
        return Ancestral(clipped)

    def times(self) -> tuple[float, ...]:
        """All N levels and 0."""
        return grids.table(self.process(), self.steps)

    def infill(self, known: Tensor, mask: Tensor) -> Overwrite:
        """The sampler that keeps latents `known` (B, code, bars) where the mask (bars,) is 1.

        Source: Mittal et al. 2021 (2103.16091) section 3.5.
        """
        return Overwrite(self.sampler(), Measurement(Mask(mask.expand(known.shape[1:])), known * mask, 0.0))
