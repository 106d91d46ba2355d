"""Annotated DDPM: the annotated diffusion model, a DDPM that trains in minutes (Rogge and Rasul 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table
from sfumato.processes.variances import small
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Ancestral
from sfumato.training import Steps

EXAMPLE = "python gallery/annotated_ddpm.py --root ROOT   # or: sfumato train FOLDER --recipe annotated -o run"


@dataclass(frozen=True)
class Recipe(Pictures):
    """DDPM as the tutorial has it: 300 steps, the Huber loss on eps, variance btilde, 28 x 28 images.

    L = E_n huber(eps - eps_hat(x_n, n)), huber(r) = r^2 / 2 for |r| < 1, |r| - 1/2 beyond; with d = N - 1, k = 0 ... d:

        linear     beta_k = first + (last - first) k / d
        quadratic  beta_k = (sqrt(first) + (sqrt(last) - sqrt(first)) k / d)^2
        sigmoid    beta_k = first + (last - first) / (1 + exp(6 - 12 k / d))
        cosine     that of iDDPM, betas held to [0.0001, 0.9999]

    The tutorial's trap: the betas of 1,000 steps in 300 leave abar_N = 0.048, a prior that is visibly wrong; `rescaled`
    multiplies first and last by 1000 / N. Data in [-1, 1]. The network is the library's U-Net with the tutorial's
    widths (28, 56, 112), without its linear attention and weight standardisation (ours).

    Source: Rogge and Rasul 2022 (huggingface.co/blog/annotated-diffusion); Ho et al. 2020 (2006.11239).
    """

    channels: int = 1
    widths: tuple[int, ...] = (28, 56, 112)
    attention: tuple[int, ...] = ()
    dropout: float = 0.0
    steps: int = 300  # N
    schedule: Literal["linear", "quadratic", "sigmoid", "cosine"] = "linear"
    first: float = 1e-4  # beta_1
    last: float = 0.02  # beta_N
    rescaled: bool = False

    def process(self) -> Table:
        """The table of N levels.

        Raises:
            ValueError: for a schedule that is none of the four.
        """
        if self.schedule == "cosine":
            bars = [math.cos((k / self.steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(self.steps + 1)]
            ratios = [bars[k + 1] / bars[k] for k in range(self.steps)]
            return Table.from_betas([min(max(1.0 - r, 1e-4), 0.9999) for r in ratios])
        scale = 1000.0 / self.steps if self.rescaled else 1.0
        first, last, line = self.first * scale, self.last * scale, [k / (self.steps - 1) for k in range(self.steps)]
        if self.schedule == "linear":
            return Table.from_betas([first + (last - first) * u for u in line])
        if self.schedule == "quadratic":
            return Table.from_betas([(first**0.5 + (last**0.5 - first**0.5) * u) ** 2 for u in line])
        if self.schedule == "sigmoid":
            return Table.from_betas([first + (last - first) / (1.0 + math.exp(6.0 - 12.0 * u)) for u in line])
        raise ValueError(f"schedules are linear, quadratic, sigmoid and cosine, got {self.schedule!r}.")

    def model(self) -> Preconditioned:
        """The untrained denoiser; the network is told n - 1."""
        return Preconditioned(self.net(), self.process(), predict_eps, clock=lambda t: t * self.steps - 1.0)

    def objective(self, denoiser: Denoiser) -> Huber:
        """The Huber loss on eps, a mean over the event."""
        return Huber(denoiser, self.steps)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the variance btilde, over `times`."""
        return Ancestral(small)

    def times(self) -> tuple[float, ...]:
        """All N levels and 0."""
        return grids.table(self.process(), self.steps)


class Huber(nn.Module):
    """The smooth L1 loss on eps at a uniform level of the table, (B,).

    Always guessing eps = 0 costs E huber(z) = 0.4247 for normal z, where the squared loss costs 1.
    """

    def __init__(self, denoiser: Denoiser, steps: int) -> None:
        super().__init__()
        self.denoiser, self.times = denoiser, Steps(steps)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """One time and one x_t drawn for each sample."""
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        eps = noise.normal(x0)
        xt = process.perturb(x0, t, eps)
        guess = process.eps(xt, self.denoiser(xt, t, cond).mean, t)
        return F.smooth_l1_loss(guess, eps, reduction="none").flatten(1).mean(1)
