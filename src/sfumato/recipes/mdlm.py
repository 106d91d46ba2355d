"""Masked diffusion in continuous time (Sahoo et al. 2024, 2406.07524; Shi et al. 2024, 2406.04329)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Logits
from sfumato.likelihood import Bound, continuous_elbo
from sfumato.noise import Noise
from sfumato.processes import Discrete
from sfumato.processes.keeps import Cosine, Keep, Late, Linear
from sfumato.recipes.tokens import Tokens
from sfumato.samplers import Ancestral, AnyOrder
from sfumato.training import Jumps


@dataclass(frozen=True)
class Recipe(Tokens):
    """Categories that turn into a mask (or any other) at a rate, a network for p(x_0 | x_t), the bound as the loss.

        -log p(x_0) <= integral of -keep' / (1 - keep) E sum over masked i of -log p(x_0^i | x_t) dt

    The network never says the mask, and what is known stays known: both hold by construction here, since the mask is
    no category of the data and Bayes' rule keeps the rest (their "SUBS"). The bound depends on the schedule through
    nothing but its ends, so schedules differ in variance and in how samples are drawn. The exact p(x_0 | x_t) with a
    mask does not depend on t at all; the network may be told t, or not (`timed`). `uniform` replaces the mask by
    resampling: then t matters, and a wrong symbol can still change.

    Source: Sahoo et al. 2024 (2406.07524) eq. 10 and section 3; Shi et al. 2024 (2406.04329) eq. 4 to 6; Schiff et al.
    2024 (2412.10193) for the uniform bound.
    """

    schedule: Literal["linear", "cosine"] = "linear"
    uniform: bool = False
    timed: bool = False  # tell the network t; always so without a mask

    def process(self) -> Discrete:
        """Masking or resampling."""
        keep: Keep = Linear() if self.schedule == "linear" else Cosine() if self.uniform else Late()
        if self.uniform:
            return Discrete(self.levels, schedule=keep)
        return Discrete(self.levels + 1, absorbing=self.levels, schedule=keep)

    def net(self) -> nn.Module:
        """The network of logits."""
        return self.network(masked=not self.uniform, logistic=False)

    def model(self) -> Logits:
        """The untrained denoiser."""
        told = 1000.0 if self.timed or self.uniform else 0.0
        return Logits(self.net(), self.process(), clock=lambda t: t * told)

    def objective(self, denoiser: Denoiser) -> Jumps:
        """The bound, with low-discrepancy times."""
        return Jumps(denoiser)

    def sampler(self) -> Ancestral | AnyOrder:
        """Any order for masks, ancestral sampling without."""
        return Ancestral() if self.uniform else AnyOrder()

    def times(self, steps: int = 1000) -> tuple[float, ...]:
        """Even steps from 1 to 0."""
        return grids.uniform(steps)

    def bound(self, denoiser: Denoiser, x0: Tensor, noise: Noise, points: int = 100) -> Bound:
        """The bound in continuous time, in nats, with `points` calls of the denoiser."""
        return continuous_elbo(denoiser, x0, noise, points=points)
