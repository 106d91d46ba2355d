"""IR-SDE: image restoration with mean-reverting stochastic differential equations (Luo et al. 2023, 2301.11699)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, Residual, predict_eps
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Reverting, Table, Time, entry, expand, lib
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Ancestral, Sampler
from sfumato.training import Denoising, Steps, eps_weight

EXAMPLE = """\
sfumato train FOLDER --recipe ir-sde --damage rain:heavy --size 64 -o run
sfumato enhance rainy.png --model run --samples 4 -o out"""


def euler(process: Reverting, D: Tensor, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Tensor:
    """Mean of Euler's step t -> s of the reverse SDE (eta = 1) or of the flow (0).

    x + h (x - y) + (1 + eta^2) h lam^2 score, h = Theta_t - Theta_s, the pull that the step undoes.
    Source: Luo et al. 2023 (2301.11699) eq. 7, discretised.
    """
    ratio = process.alpha(s) / process.alpha(t)
    h = expand(lib(ratio).log(ratio), xt)
    anchored = xt - process._anchor(xt)
    return xt + h * anchored + (1.0 + eta**2) * h * process.scale**2 * process.score(xt, D, t)


@dataclass(frozen=True)
class ReverseEuler(Sampler):
    """Euler's step of the reverse SDE, with noise lam sqrt(2 h) in every step, the last too; of the flow at eta = 0.

    Source: Luo et al. 2023 (2301.11699) eq. 7 and appendix; public code, `reverse_sde` and `reverse_ode`.
    """

    eta: float = 1.0

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = cast(Reverting, denoiser.process)
        xs = euler(process, denoiser(xt, t).mean, xt, t, s, self.eta)
        if self.eta == 0.0:
            return xs, memory
        h = math.log(process.alpha(s) / process.alpha(t))
        return xs + self.eta * process.scale * math.sqrt(2.0 * h) * noise.normal(xt), memory


class Likelihood(nn.Module):
    """mean |Euler step of x_i - E[x_(i-1) | x_i, x_0]| at a uniform level i of T, the maximum-likelihood loss.

    Source: Luo et al. 2023 (2301.11699) eq. 14 to 16, proposition 3.2; L1 as in the public code.
    """

    def __init__(self, denoiser: Denoiser, levels: int) -> None:
        super().__init__()
        self.denoiser, self.levels = denoiser, levels

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        process = cast(Reverting, self.denoiser.process.bind(cond))
        t = Steps(self.levels)(process, len(x0), noise).to(x0.device)
        s = (t - 1.0 / self.levels).clamp(min=0.0)
        xt = process.marginal(x0, t).sample(noise)
        best = process.reverse(Estimate(x0), xt, t, s).mean
        return (euler(process, self.denoiser(xt, t, cond).mean, xt, t, s) - best).abs().flatten(1).mean(1)


@dataclass(frozen=True)
class Recipe(Restorer):
    """A process that reverts to the damaged picture y while noise of size lam comes in; reversed, it restores.

    dx = theta (y - x) dt + lam sqrt(2 theta) dw,   x_i = y + (x_0 - y) B + lam sqrt(1 - B^2) eps,   B = e^(-Theta_i)

    The network reads x_i - y, in units of lam (ours), beside y, is told i, and answers the noise. The loss matches the
    Euler step of the reverse SDE to the mean of x_(i-1) given x_i and x_0, in L1. Drawing begins at y + lam eps and
    follows the posterior of x_(i-1) given x_i and D, as the public code now does by default; the paper's Euler steps
    and its flow are `draw="sde"` and `"ode"`. Any number of steps up to T may be drawn with.

    Limits: trained by the likelihood, the network is best for Euler's steps: at T = 100 its noise differs visibly from
    eps in mid-way, which the posterior then reads as eps; `loss="noise"` trains eps itself. With the posterior the
    spread of samples is too narrow at few steps: 0.94 of the variance at T = 100, 0.60 at 10, where y leaves 0.01 open.

    Args:
        lam: noise at the end for pictures in [0, 1] (twice as much in model space): 10/255 for rain, blur and shadow,
            30/255 for enlargement and inpainting.
        levels: T.
        end: e^(-Theta_T), what is left of x_0 - y.
        loss: "likelihood" or "noise".
        draw: "posterior", "sde" or "ode".

    Source: Luo et al. 2023 (2301.11699) eq. 3 to 16; cosine theta, T, end and lam of the public code.
    """

    lam: float = 10.0 / 255.0
    levels: int = 100
    end: float = 0.005
    loss: str = "likelihood"
    draw: str = "posterior"

    def __post_init__(self) -> None:
        if self.loss not in ("likelihood", "noise"):
            raise ValueError(f"loss is 'likelihood' or 'noise', got {self.loss!r}.")
        if self.draw not in ("posterior", "sde", "ode"):
            raise ValueError(f"draw is 'posterior', 'sde' or 'ode', got {self.draw!r}.")

    def table(self) -> Table:
        """The levels B_i^2 = e^(-2 Theta_i), theta_i = 1 - cos^2 of T + 2 even angles, the first left out."""
        thetas = [1.0 - _bar((i + 1) / (self.levels + 2)) / _bar(0.0) for i in range(1, self.levels + 1)]
        dt = -math.log(self.end) / math.fsum(thetas)
        return Table(tuple(math.exp(-2.0 * dt * total) for total in accumulate(thetas)))

    def process(self) -> Reverting:
        """The mean-reverting process; its end is the entry "image" of the condition."""
        return Reverting(self.table(), scale=2.0 * self.lam, read=entry("image"))

    def model(self) -> Residual:
        """The untrained denoiser."""
        inner = Preconditioned(self.net(), self.table(), predict_eps, clock=lambda t: t * self.levels)
        return Residual(inner, self.process())

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """The maximum-likelihood loss, or that of the noise."""
        if self.loss == "noise":
            return Denoising(denoiser, Steps(self.levels), eps_weight)
        return Likelihood(denoiser, self.levels)

    def sampler(self) -> Sampler:
        """The posterior, the reverse SDE, or the flow."""
        return Ancestral() if self.draw == "posterior" else ReverseEuler(1.0 if self.draw == "sde" else 0.0)


def _bar(u: float) -> float:
    return math.cos((u + 0.008) / 1.008 * 0.5 * math.pi) ** 2
