"""UNIT-DDPM: unpaired image translation with diffusion models (Sasaki et al. 2021, 2104.05358)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sfumato.denoisers import Clipped, Denoiser, Preconditioned, predict_eps
from sfumato.estimate import Estimate
from sfumato.nets.regressor import Regressor
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, Time
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Sampler
from sfumato.samplers.translate import Translate
from sfumato.training import Steps

EXAMPLE = """\
sfumato train CLEAR --recipe unit-ddpm --damage haze:middle --size 32 -o run
sfumato enhance foggy.png --model run --samples 4 -o out"""


@dataclass(frozen=True)
class Recipe(Restorer):
    """Two denoisers, one a domain, each told the noisy picture of the other domain; two translators; no adversary.

    A is the domain of x_0, B that of cond["image"]; the two need not be pairs, and no loss compares one with the other.
    With xB' = gB(xA), xA' = gA(xB), one time for a picture and its translation, and noises of their own, the denoisers
    are trained by

        |fA(xA_t, xB'_t, t) - eA|^2 + |fB(xB_u, xA'_u, u) - eB|^2,   translations without gradient,

    and the translators by the same two terms with gradient, |fA(xA'_u, xB_u, u) - eA'|^2 + |fB(xB'_t, xA_t, t) - eB'|^2
    and cycle (|gA(gB(xA)) - xA| + |gB(gA(xB)) - xB|), in which the denoisers stay as they are. The sum of all is
    minimised at once, each network by its own terms (ours: the paper's two optimisers take turns).

    Drawing A from B: x^B is y noised anew at every level down to the release time, both are denoised below it.

    Limits: the translators are U-Nets of the same widths, without a clock (ours); two translations of a picture differ
    more in colour than in content at this size; draws are near the law of A, not of it: x^B is noised anew.

    Args:
        first, last, levels: of the linear betas.
        cycle: weight of the cycle terms.
        release: the release time, in steps of `levels`.

    Source: Sasaki et al. 2021 (2104.05358) eq. 4 to 12, algorithms 1 and 2; gradients as in a public re-implementation.
    """

    calls: int = 1000
    first: float = 1e-4
    last: float = 2e-2
    levels: int = 1000
    cycle: float = 10.0
    release: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.release <= self.levels:
            raise ValueError(f"the release time is a step, 0 to {self.levels}, got {self.release}.")

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.levels, self.first, self.last)

    def model(self) -> Translator:
        """The four untrained networks."""
        made = (Preconditioned(self.unet(), self.process(), predict_eps) for _ in range(2))
        return Translator(
            *made, *(Regressor(self.unet(beside=0)) for _ in range(2)), release=self.release / self.levels
        )

    def objective(self, denoiser: Denoiser) -> Unpaired:
        """All terms."""
        assert isinstance(denoiser, Translator)
        return Unpaired(denoiser, Steps(self.levels), self.cycle)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1]."""
        return Clipped(denoiser)

    def sampler_given(self, cond: dict[str, Tensor]) -> Sampler:
        """Ancestral sampling beside y."""
        return Translate(cond["image"], self.release / self.levels)

    def sampler(self) -> Sampler:
        """The same without a picture, to be named: it makes no step."""
        return Translate(torch.zeros(0), self.release / self.levels)

    def state(self, cond: dict[str, Tensor]) -> Tensor:
        """Of twice the channels of y."""
        return torch.cat([cond["image"], cond["image"]], 1)

    def picture(self, denoiser: Denoiser, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The first half."""
        return x[:, : self.channels]


class Translator(Denoiser):
    """The estimates of both halves of a state (x^A, x^B), each from both; y for the second where it is known and t is
    above the release time.

    Args:
        a, b: denoisers told {"image": the other's noisy picture}.
        to_a, to_b: translators, (B, C, H, W) to the same.
    """

    def __init__(self, a: Denoiser, b: Denoiser, to_a: nn.Module, to_b: nn.Module, *, release: float = 0.0) -> None:
        super().__init__()
        self.a, self.b, self.to_a, self.to_b, self.release = a, b, to_a, to_b, release
        self.process = a.process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        xa, xb = xt.chunk(2, 1)
        first = self.a(xa, t, {"image": xb}).mean
        if cond is not None and isinstance(t, float) and t > self.release:
            return Estimate(torch.cat([first, cond["image"].to(first)], 1))
        return Estimate(torch.cat([first, self.b(xb, t, {"image": xa}).mean], 1))


class Unpaired(nn.Module):
    """The loss of each sample, (B,): the sum in `Recipe`, whose gradients reach each network by its own terms alone."""

    def __init__(self, denoiser: Translator, times: Steps, cycle: float) -> None:
        super().__init__()
        self.denoiser, self.times, self.cycle = denoiser, times, cycle

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        of, xa, xb = self.denoiser, x0, cond["image"]
        as_b, as_a = of.to_b(xa), of.to_a(xb)
        process = of.process
        assert isinstance(process, Gaussian)
        t, u = (self.times(process, len(xa), noise).to(xa.device) for _ in range(2))
        ea, eb, ea2, eb2 = (noise.normal(xa) for _ in range(4))
        a_t, b_t = process.perturb(xa, t, ea), process.perturb(as_b, t, eb2)
        b_u, a_u = process.perturb(xb, u, eb), process.perturb(as_a, u, ea2)
        # The gradient of the denoisers is that of translations without gradient: they come before them.
        terms = (
            missed(process, of.a(a_t, t, {"image": b_t}), a_t, t, ea),
            missed(process, of.b(b_u, u, {"image": a_u}), b_u, u, eb),
            missed(process, frozen(of.a, a_u, u, b_u), a_u, u, ea2),
            missed(process, frozen(of.b, b_t, t, a_t), b_t, t, eb2),
        )
        round_trips = (of.to_a(as_b) - xa).abs() + (of.to_b(as_a) - xb).abs()
        total: Tensor = sum(terms) + self.cycle * round_trips.flatten(1).mean(1)
        return total


def missed(process: Gaussian, estimate: Estimate, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """mean |eps_hat - eps|^2 of each sample, (B,)."""
    return (process.eps(xt, estimate.mean, t) - eps).square().flatten(1).mean(1)


def frozen(denoiser: Denoiser, xt: Tensor, t: Tensor, beside: Tensor) -> Estimate:
    """The estimate, through which a gradient reaches x_t and what is beside it, and no weight."""
    weights = {name: p.detach() for name, p in denoiser.named_parameters()}
    estimate: Estimate = functional_call(denoiser, weights, (xt, t, {"image": beside}))
    return estimate
