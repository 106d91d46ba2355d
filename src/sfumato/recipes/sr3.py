"""SR3: image super-resolution via iterative refinement (Saharia et al. 2022, 2104.07636)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.denoisers import Clipped, Denoiser, Preconditioned
from sfumato.processes import Table
from sfumato.processes.variances import large
from sfumato.recipes.restorer import Restorer
from sfumato.recipes.sr3_unet import of_signal
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Uniform, eps_weight

EXAMPLE = """\
sfumato train FOLDER --recipe sr3 --damage enlarge:4 --size 32 -o run
sfumato enhance small.png --model run --samples 4 -o out"""


@dataclass(frozen=True)
class Recipe(Restorer):
    """DDPM whose network sees the enlarged picture beside x_t and is told the noise level itself.

    x_t = sqrt(gamma) x_0 + sqrt(1 - gamma) eps,  L = |f(y_up, x_t, gamma) - eps|^2,  gamma between two levels of a
    table of N (piecewise uniform in time). Any number of steps may be drawn with afterwards, on levels of their own:
    ancestral sampling with the large variance, beta of the step. The network is told sqrt(gamma), as in the public
    code (the paper: gamma), and y_up is the bicubic enlargement of y.

    Limits: at few steps the spread of samples is too wide (large variance): 1.67 times the variance at 50 steps where
    y leaves little open (0.01), 1.12 at 200.

    Args:
        first, last, levels: of the linear betas in training.

    Source: Saharia et al. 2022 (2104.07636) eq. 6, algorithms 1 and 2; N and betas of the public re-implementation.
    """

    first: float = 1e-6
    last: float = 1e-2
    levels: int = 2000

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.levels, self.first, self.last)

    def model(self) -> Denoiser:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), of_signal)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The square error of eps, at levels between those of the table too."""
        return Denoising(denoiser, Uniform(0.5 / self.levels, 1.0), eps_weight)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1]."""
        return Clipped(denoiser)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the variance beta."""
        return Ancestral(large)
