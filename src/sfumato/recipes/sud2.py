"""SUD2: supervision by denoising diffusion models for image reconstruction (Chan et al. 2023, 2303.09642)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.regressed import Regressed
from sfumato.nets.regressor import Regressor
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import DDIM
from sfumato.training import Denoising, Uniform, eps_weight
from sfumato.training.times import TimeLaw

EXAMPLE = """\
import sfumato as sf
recipe = sf.recipes.load("sud2").Recipe()
denoiser = recipe.model()
objective = recipe.objective(denoiser)  # of (x0, {"image": y, "paired": p}, noise): p is 0 where x0 is of another y
# after sfumato.training.fit(objective, ...): denoiser.net(y) is the reconstruction"""


@dataclass(frozen=True)
class Recipe(Restorer):
    """A regression m(y) from few pairs and many damaged pictures without their clean ones, which a prior supervises.

    Pairs |m(y) - x_0|^2; without x_0 the target is the prior's estimate of the noised result, and has no gradient:

        x = m(y),  x_t = alpha x + sigma eps,  w |x - stop(D(x_t, t))|^2

    so that the gradient 2 w (x - D) is that of regularisation by denoising. On a Gaussian prior N(m, S) its mean is
    2 w sigma^2 (alpha^2 S + sigma^2 I)^-1 (x - m): by itself it pulls every result to the mean m, the more the larger
    t is.

    Rows of a batch are pairs where cond["paired"], (B,), is not 0; all of them without it, as `sfumato train` gives
    them: then it is a regression, and the prior is of no use. The prior is a DDPM of the x_0 of all rows (there is
    nothing else to train it on), trained for the first `prior_steps` steps, then frozen (ours; the paper's was trained
    before, on other clean pictures). Nothing is drawn: `enhance` is one pass of m, and its samples are alike.

    Weights and times of the paper are not known to us: w, `low` and `high` are ours, as are one denoising step and one
    draw of the noise. The paper's cycle through a learned code of the damage is left out.

    Args:
        weight: w.
        low, high: t is uniform between them; large times collapse the results to the mean of the prior.
        prior_steps: of training, for the prior.
        levels: of the prior's table of linear betas.

    Source: Chan et al. 2023 (2303.09642); no public code was found.
    """

    calls: int = 1
    weight: float = 1.0
    low: float = 0.02
    high: float = 0.3
    prior_steps: int = 1000
    levels: int = 1000

    def process(self) -> Table:
        """The prior's table."""
        return Table.linear(self.levels)

    def model(self) -> Supervised:
        """The untrained regression with its untrained prior."""
        process = self.process()
        prior = Preconditioned(self.unet(beside=0), process, predict_eps)
        return Supervised(Regressor(self.unet(beside=0)), process, prior)

    def objective(self, denoiser: Denoiser) -> Supervision:
        """The prior for the first steps, then the regression."""
        assert isinstance(denoiser, Supervised)
        return Supervision(denoiser, Uniform(self.low, self.high), self.weight, self.prior_steps)

    def sampler(self) -> DDIM:
        """One step is m(y)."""
        return DDIM()


class Supervised(Regressed):
    """A regression and the prior that it is supervised by."""

    def __init__(self, net: nn.Module, process: Gaussian, prior: Denoiser) -> None:
        super().__init__(net, process)
        self.prior = prior


class Supervision(nn.Module):
    """|m(y) - x_0|^2 of pairs, w |x - D(x_t, t)|^2 of the other rows, x = m(y) and D without gradient: means, (B,).

    Until `advance` has passed `first` steps, the loss of the prior on x_0.
    """

    def __init__(self, denoiser: Supervised, times: TimeLaw, weight: float, first: int = 0) -> None:
        super().__init__()
        self.denoiser, self.times, self.weight, self.first, self.step = denoiser, times, weight, first, 1

    def advance(self, step: int) -> None:
        """Which step of training comes."""
        self.step = step

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        if self.step <= self.first:
            loss: Tensor = Denoising(self.denoiser.prior, Uniform(), eps_weight)(x0, None, noise)
            return loss
        x = self.denoiser.net(cond["image"])
        error = (x - x0).flatten(1).square().mean(1)
        if "paired" not in cond:
            return error
        pull = self.weight * (x - self.target(x, noise)).flatten(1).square().mean(1)
        return torch.where(cond["paired"].to(x0.device) != 0, error, pull)

    @torch.no_grad()
    def target(self, x: Tensor, noise: Noise) -> Tensor:
        """D(alpha x + sigma eps, t), without gradient."""
        prior = self.denoiser.prior
        t = self.times(prior.process, len(x), noise).to(x.device)
        D: Tensor = prior(prior.process.marginal(x, t).sample(noise), t).mean
        return D
