"""DGLSB: deep generative learning via Schroedinger bridge (Wang et al. 2021, 2106.10410)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.denoisers import Denoiser, Preconditioned, predict_score
from sfumato.denoisers.base import Wrapper
from sfumato.estimate import Estimate
from sfumato.grids import uniform
from sfumato.nets import UNet
from sfumato.noise import Noise
from sfumato.processes import Brownian, Gaussian, Time
from sfumato.recipes.pictures import Pictures
from sfumato.samplers.sde import last, simulate
from sfumato.training import Denoising, Steps, eps_weight


class TwoStage(Wrapper):
    """A denoiser of the smoothed data and the log ratio log f, f = q_sigma / N(0, tau); `center` is the data's mean.

    As a denoiser it is `inner`, about the centre. `ratio(x, c_noise)` is (B, 1), or a map that is averaged.
    """

    def __init__(self, inner: Denoiser, ratio: nn.Module, center: Tensor | None = None) -> None:
        super().__init__(inner)
        self.ratio = ratio
        self.register_buffer("center", torch.zeros(()) if center is None else center)

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        center: Tensor = self.center  # type: ignore[assignment]
        found = self.inner(xt - center, t, cond)
        return Estimate(found.mean + center, found.var)

    def score(self, x: Tensor, t: float) -> Tensor:
        """grad log q of the centred data at level sigma sqrt(t)."""
        process = self.process
        assert isinstance(process, Gaussian)
        return process.score(x, self.inner(x, t).mean, t)

    def log_ratio(self, x: Tensor) -> Tensor:
        """log f(x) of centred x, (B,)."""
        return self.ratio(x, torch.zeros(len(x), dtype=x.dtype, device=x.device), None).flatten(1).mean(1)


class Objective(nn.Module):
    """Score matching of all levels, plus the logistic loss that tells q_sigma from N(0, tau), (B,).

    softplus(-log f(x)) + softplus(log f(w)), x ~ q_sigma, w ~ N(0, tau), is least where f is the ratio of densities.
    Source: Wang et al. 2021 (2106.10410) eq. 7 and section 4.2.
    """

    def __init__(self, denoiser: TwoStage, tau: float, levels: int) -> None:
        super().__init__()
        self.denoiser, self.tau = denoiser, tau
        self.matching = Denoising(denoiser, Steps(levels), eps_weight)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        two = self.denoiser
        smooth = two.process.marginal(x0 - two.center, 1.0).sample(noise)  # type: ignore[operator]
        reference = math.sqrt(self.tau) * noise.normal(x0)
        logistic = F.softplus(-two.log_ratio(smooth)) + F.softplus(two.log_ratio(reference))
        return self.matching(x0, None, noise) + logistic


@dataclass(frozen=True)
class Recipe(Pictures):
    """Two bridges: from the data's mean to the smoothed law q_sigma = p * N(0, sigma^2), and from there to the data.

    Stage 1, s from 0 to 1, X_0 = 0 (data less their mean), f = q_sigma / N(0, tau):

        dX = tau b ds + sqrt(tau) dW,   x_i = X + sqrt(tau (1 - s)) z_i,
        b = sum_i f(x_i) (grad log q_sigma(x_i) + sqrt((1 - s) / tau) z_i) / sum_i f(x_i) + X / tau.

    Stage 2, X_0 ~ q_sigma: dX = sigma^2 grad log q_{sqrt(1 - s) sigma}(X) ds + sigma dW, and a last move by the score
    without noise. K Euler steps each. log f by logistic regression, the score by denoising score matching at
    sigma_k^2 = sigma^2 k / K. Take tau at least the data's variance plus sigma^2: f is then bounded.

    The paper takes one z (m = 1), and another one for the denominator: that estimate is biased by E[f] E[1/f] > 1 and
    may diverge; here both sums run over one set of `draws` (ours). `paper()` gives theirs. With one shared draw f
    cancels and only the score is left. The networks are the library's (ours). It is trained by `sfumato train`, and
    drawn from in Python: `Recipe().draw(model, (16, 1, 28, 28), sf.Noise(0))`.

    Source: Wang et al. 2021 (2106.10410) theorems 2 and 3, algorithm 1, section 5.1.
    """

    sigma: float = 1.0
    tau: float = 2.0
    levels: int = 1000  # K, Euler steps of a stage
    draws: int = 8  # m (ours)
    shared: bool = True  # one set of z for both sums (ours)
    ratio_width: int = 32  # of the network of log f

    @classmethod
    def paper(cls, **fields: Any) -> Recipe:
        """The released setting: m = 1, two sets of z."""
        return cls(draws=1, shared=False, **fields)

    def process(self) -> Brownian:
        """x_t = x_0 + sigma sqrt(t) eps."""
        return Brownian(self.sigma)

    def model(self, center: Tensor | None = None) -> TwoStage:
        """The untrained score and ratio; `center` is the data's mean, (*event) or a number."""
        ratio = UNet(self.channels, (self.ratio_width, 2 * self.ratio_width), 1, dims=self.dims, out=1)
        return TwoStage(Preconditioned(self.net(), self.process(), predict_score), ratio, center)

    def objective(self, denoiser: TwoStage) -> Objective:
        """Both losses."""
        return Objective(denoiser, self.tau, self.levels)

    def first(self, model: TwoStage, x: Tensor, noise: Noise) -> Tensor:
        """Stage 1: from x (zeros) to a draw of q_sigma, centred, (B, *event)."""

        def drift(x: Tensor, s: float) -> Tensor:
            return self.tau * self.pull(model, x, s, noise)

        return last(simulate(drift, lambda x, s: math.sqrt(self.tau), x, uniform(self.levels)[::-1], noise))

    def pull(self, model: TwoStage, x: Tensor, s: float, noise: Noise) -> Tensor:
        """b(x, s), the estimate of grad log E_z f(x + sqrt(tau (1 - s)) z) with `draws` draws, (B, *event)."""
        zs = [noise.normal(x) for _ in range(self.draws)]
        spread, z = math.sqrt(self.tau * (1.0 - s)), torch.stack(zs)
        near = (x + spread * z).flatten(0, 1)
        score = model.score(near, 1.0).reshape(z.shape)
        log_f = model.log_ratio(near).reshape(self.draws, -1)
        if self.shared:
            weights = torch.softmax(log_f, 0)
        else:
            other = torch.stack([x + spread * noise.normal(x) for _ in range(self.draws)]).flatten(0, 1)
            below = torch.logsumexp(model.log_ratio(other).reshape(self.draws, -1), 0)
            weights = torch.exp(log_f - below)
        weights = weights.reshape(self.draws, len(x), *[1] * (x.ndim - 1))
        return (weights * (score + spread / self.tau * z)).sum(0) + x / self.tau

    def second(self, model: TwoStage, x: Tensor, noise: Noise) -> Tensor:
        """Stage 2: from a draw of q_sigma to one of the data, centred, before the last noiseless move."""

        def drift(x: Tensor, t: float) -> Tensor:
            return -(self.sigma**2) * model.score(x, t)

        return last(simulate(drift, lambda x, t: self.sigma, x, uniform(self.levels), noise))

    @torch.no_grad()
    def draw(self, model: TwoStage, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Samples, (B, *event), model space: both stages, the last move, and the mean put back."""
        center: Tensor = model.center  # type: ignore[assignment]
        x = self.second(model, self.first(model, torch.zeros(shape).to(center), noise), noise)
        step = 1.0 / self.levels
        return x + self.sigma**2 * step * model.score(x, step) + center
