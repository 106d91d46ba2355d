"""CDPMSR: conditional diffusion probabilistic models for image super-resolution (Niu et al. 2023, 2302.12831)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.denoisers import Clipped, Denoiser, Preconditioned
from sfumato.denoisers.prepared import Prepared
from sfumato.nets.regressor import Regressor
from sfumato.noise import Noise
from sfumato.processes.variances import none
from sfumato.recipes.sr3 import Recipe as Plain
from sfumato.recipes.sr3_unet import of_signal
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Uniform, eps_weight
from sfumato.training.regression import Regression

EXAMPLE = """\
sfumato train FOLDER --recipe cdpmsr --damage enlarge:4 --size 32 --set first_steps=1000 --steps 2000 -o run
sfumato enhance small.png --model run -o out"""


@dataclass(frozen=True)
class Recipe(Plain):
    """SR3 told the output of a regression m(y) instead of y, and drawn without fresh noise.

    m is trained first, by |m(y) - x_0|^2, for `first_steps` steps; then it is frozen, and the denoiser is trained as
    SR3 with m(y) beside x_t. A step keeps the mean of the ancestral law alone: a draw is a function of y and x_1. On
    Gaussian data the chain of means telescopes to E[x_0 | x_1, y] at any number of steps, that is to a regression:
    hence high PSNR and no spread. It is not DDIM, which keeps the variance of the data.

    Limits: m is a U-Net of the library's, of the same widths (ours; the paper takes a published network as it is); the
    samples of one y hardly differ.

    Args:
        first_steps: of training, for m (ours).

    Source: Niu et al. 2023 (2302.12831) section 3; no public code was found.
    """

    first_steps: int = 1000

    def model(self) -> Denoiser:
        """The untrained denoiser behind an untrained regression."""
        inner = Preconditioned(self.net(), self.process(), of_signal)
        return Prepared(inner, Regressor(self.unet(beside=0)))

    def objective(self, denoiser: Denoiser) -> TwoStages:
        """The regression for the first steps, then the square error of eps."""
        assert isinstance(denoiser, Prepared)
        return TwoStages(denoiser, Uniform(0.5 / self.levels, 1.0), self.first_steps)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1], told m(y) by `condition`, once."""
        assert isinstance(denoiser, Prepared)
        return Clipped(denoiser.inner)

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """m(y) in the place of y."""
        assert isinstance(denoiser, Prepared)
        found: dict[str, Tensor] = denoiser.prepared(cond)
        return found

    def sampler(self) -> Ancestral:
        """Means of ancestral sampling."""
        return Ancestral(none)


class TwoStages(Denoising):
    """The loss of the regression in `denoiser` until `advance` has passed `first` steps, then that of the denoiser."""

    def __init__(self, denoiser: Prepared, times: Uniform, first: int) -> None:
        super().__init__(denoiser, times, eps_weight)
        self.first, self.step = first, 1

    def advance(self, step: int) -> None:
        """Which step of training comes."""
        self.step = step

    def forward(self, x0: Tensor, cond: dict[str, Tensor], noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        assert isinstance(self.denoiser, Prepared)
        if self.step <= self.first:
            return Regression(self.denoiser.first)(x0, cond, noise)
        return super().forward(x0, cond, noise)
