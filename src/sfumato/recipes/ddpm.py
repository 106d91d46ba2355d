"""DDPM: denoising diffusion probabilistic models (Ho et al. 2020, 2006.11239)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Clipped, Denoiser, Preconditioned, predict_eps
from sfumato.likelihood import Bound, elbo
from sfumato.noise import Noise
from sfumato.processes import Table
from sfumato.processes.variances import Reverse, large, small
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Steps, eps_weight


@dataclass(frozen=True)
class Recipe(Pictures):
    """A chain of N small steps with linear beta, a network that predicts eps, an unweighted loss, ancestral sampling.

    x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) eps, L_simple = E_n |eps - eps_hat(x_n, n)|^2, and
    x_{n-1} = (x_n - beta_n / sqrt(1 - abar_n) eps_hat) / sqrt(1 - beta_n) + s_n z with no noise at n = 1. s_n^2 is
    beta_n (exact for data N(0, I)) or btilde_n (exact for one point); on few steps the choice matters. Data in [-1, 1].
    The network is the library's U-Net, not the paper's (ours).

    Source: Ho et al. 2020 (2006.11239) eq. 4, 11 and 14, section 4 and appendix B.
    """

    steps: int = 1000  # N
    first: float = 1e-4  # beta_1
    last: float = 0.02  # beta_N
    wide: bool = True  # variance beta ("fixedlarge"); False: btilde ("fixedsmall")

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.steps, self.first, self.last)

    def model(self) -> Preconditioned:
        """The untrained denoiser; the network is told n - 1, as the paper's is."""
        return Preconditioned(self.net(), self.process(), predict_eps, clock=lambda t: t * self.steps - 1.0)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """L_simple, a mean over the event."""
        return Denoising(denoiser, Steps(self.steps), eps_weight)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1], as the paper samples."""
        return Clipped(denoiser)

    def reverse(self) -> Reverse:
        """The variance of a step."""
        return large if self.wide else small

    def sampler(self) -> Ancestral:
        """Ancestral sampling with this variance, over `times`."""
        return Ancestral(self.reverse())

    def times(self) -> tuple[float, ...]:
        """All N levels and 0."""
        return grids.table(self.process(), self.steps)

    def bound(self, denoiser: Denoiser, x0: Tensor, noise: Noise) -> Bound:
        """The variational bound over all N steps, with the discretised decoder: N calls of the denoiser."""
        return elbo(denoiser, x0, self.times(), noise, reverse=self.reverse())
