"""BDDM: bilateral denoising diffusion models (Lam et al. 2021, 2108.11514 and 2203.13508)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, expand
from sfumato.samplers import Ancestral

EXAMPLE = """\
python -c 'import torch, sfumato as sf; R = sf.recipes.load("bddm").Recipe()
D = sf.GaussianWorld(torch.ones(1), torch.eye(1) * 0.04).denoiser(R.process())
x1 = sf.Noise(2).normal(torch.zeros(99, 1))
betas = R.search(D, lambda x: torch.full((len(x),), 0.5), x1, sf.Noise(0)); print(betas)  # a trained phi for 0.5
print(sf.sample(D, R.sampler(), x1=x1, times=R.times(betas), noise=sf.Noise(1)).mean())'"""

Ratio = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """A second network, phi in (0, 1), says from a noisy sample how small the next variance may be.

    Here a is the paper's alpha, sqrt(abar), and d^2 = 1 - a^2. Search, from the two numbers `level` = a_N and
    `variance` = beta_N: make the ancestral step, then

        a_n = a_{n+1} / sqrt(1 - beta_{n+1}),   beta_n = min(1 - a_n^2, beta_{n+1}) phi(x_n),

    until beta_n is below the first beta of training. This gives the betas, from which `times` makes an ordinary grid:
    the schedule is found once, on a reference, with times chosen as the search goes, and every run after it has it
    fixed. The pair (level, variance) is chosen by hearing: the paper tries 0.1 to 0.9 for each and keeps the best PESQ
    and STOI. Levels noisier than the last of training are refused: there the denoiser would be asked about another
    level than its input has.

    Levels are those of the betas exactly; the step that the network is told comes from `Table`, linear in log SNR
    between its entries, where the paper's code is linear in a (ours).

    Args:
        train, first, last: T and the ends of the betas that the denoiser was trained on.
        level, variance: a_N and beta_N; no values of the paper's, which searches (ours).
        most: longest schedule.
        tau: steps between the two levels of the training of phi.

    Source: Lam et al. 2021 (2108.11514) algorithms 2 and 3, eq. 14; Lam et al. 2022 (2203.13508) eq. 12 to 17.
    """

    train: int = 200
    first: float = 1e-4
    last: float = 0.02
    level: float = 0.5
    variance: float = 0.5
    most: int = 12
    tau: int = 66

    def __post_init__(self) -> None:
        if not (0.0 < self.level < 1.0 and 0.0 < self.variance < 1.0):
            raise ValueError(f"level and variance lie in (0, 1), got {self.level} and {self.variance}.")
        if not 0 < 2 * self.tau < self.train or self.most < 1:
            raise ValueError(
                f"0 < 2 tau < {self.train} steps of training and most >= 1, got {self.tau} and {self.most}."
            )
        reached = self.process().alpha(1.0)
        if self.level < reached:
            raise ValueError(f"level {self.level} is noisier than the training's last one: take {reached:.4g} or more.")

    def process(self) -> Table:
        """The table of T linear betas."""
        return Table.linear(self.train, self.first, self.last)

    def sampler(self) -> Ancestral:
        """Ancestral sampling; DDIM is the paper's other."""
        return Ancestral()

    def loss(self, denoiser: Denoiser, ratio: nn.Module) -> StepLoss:
        """The training of phi; the denoiser is left as it is."""
        return StepLoss(denoiser, ratio, self.train, self.tau)

    def search(self, denoiser: Denoiser, ratio: Ratio, x: Tensor, noise: Noise) -> tuple[float, ...]:
        """beta_1 .. beta_N, found on the way down from x of the prior, (B, *event), model space.

        Args:
            ratio: phi, x (B, *event) to (B,) in (0, 1); its mean over the batch is taken (ours: the paper has B = 1).
        """
        process, betas = denoiser.process, [self.variance]
        assert isinstance(process, Gaussian)
        bar = self.level**2
        with torch.no_grad():
            while len(betas) < self.most:
                above = bar / (1.0 - betas[-1])
                if above >= 1.0:
                    break
                t, s = _time(process, bar), _time(process, above)
                x = process.reverse(denoiser(x, t)._replace(var=None), x, t, s).sample(noise)
                bar, beta = above, min(1.0 - above, betas[-1]) * float(ratio(x).mean())
                if beta < self.first:
                    break
                betas.append(beta)
        return tuple(reversed(betas))

    def times(self, betas: tuple[float, ...]) -> tuple[float, ...]:
        """The grid of found betas: prod_{i <= n} (1 - beta_i) for n = N .. 1, and 0; give `sample` its own start x1."""
        return grids.free(self.process(), betas)


class StepLoss(nn.Module):
    """The loss of phi at a random step n, tau .. T - tau - 1, with b = min(d^2, 1 - (a_{n+tau} / a_n)^2) phi(x_n):

        d^2 / (2 (d^2 - b)) |eps - (b / d^2) eps^|^2 + w D log(d^2 / b) + (D / 2) (b / d^2 - 1),

    D numbers in an event. With w = 1/2 it is KL(p(x_{n-1} | x_n) || q(x_{n-1} | x_0)) for a step of variance b;
    the published loss has 1/4, which the default follows. It diverges as b tends to d^2.

    Args:
        denoiser: frozen: no gradient reaches it.
        ratio: phi, x (B, *event) to (B,) in (0, 1).
        train, tau: T and the steps between the two levels.
        weight: w.

    Source: Lam et al. 2021 (2108.11514) eq. 14, and its public code, where the logarithm is summed over the event.
    """

    def __init__(self, denoiser: Denoiser, ratio: nn.Module, train: int, tau: int, weight: float = 0.25) -> None:
        super().__init__()
        self.denoiser, self.ratio = denoiser.requires_grad_(False), ratio
        self.train_steps, self.tau, self.weight = train, tau, weight

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample in nats, (B,)."""
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        count = self.train_steps - 2 * self.tau
        n = 1.0 + self.tau + noise.choice(torch.ones(len(x0), count, dtype=torch.float64)).double()
        t, later = n / self.train_steps, (n + self.tau) / self.train_steps
        eps = noise.normal(x0)
        xt = process.perturb(x0, t, eps)
        with torch.no_grad():
            guess = process.eps(xt, self.denoiser(xt, t, cond).mean, t)
        delta2 = process.sigma(t) ** 2
        bound = torch.minimum(delta2, 1.0 - (process.alpha(later) / process.alpha(t)) ** 2)
        return step_loss(eps, guess, delta2.to(x0), bound.to(x0) * self.ratio(xt), self.weight)


def step_loss(eps: Tensor, guess: Tensor, delta2: Tensor, b: Tensor, weight: float = 0.25) -> Tensor:
    """The formula of `StepLoss`, (B,), for eps and its estimate (B, *event), d^2 and b (B,)."""
    d = eps[0].numel()
    share = b / delta2
    error = (eps - expand(share, eps) * guess).flatten(1).square().sum(1)
    return error / (2.0 * (1.0 - share)) - weight * d * share.log() + 0.5 * d * (share - 1.0)


def _time(process: Gaussian, bar: float) -> float:
    """The time at which alpha^2 is `bar`, in (0, 1)."""
    time: float = process.time_of(math.log(bar) - math.log1p(-bar))
    return time
