"""DvSR: deblurring via stochastic refinement (Whang et al. 2022, 2112.02475)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.denoisers import Denoiser, Preconditioned, Predicted, Residual
from sfumato.nets import UNet
from sfumato.nets.regressor import Regressor
from sfumato.processes import Reverting, Table, entry
from sfumato.processes.variances import large
from sfumato.recipes.restorer import Restorer
from sfumato.recipes.sr3_unet import of_signal
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Uniform, eps_weight

EXAMPLE = """\
sfumato train FOLDER --recipe dvsr --damage motion:15 --size 64 -o run
sfumato enhance blurred.png --model run --samples 8 -o out"""


@dataclass(frozen=True)
class Recipe(Restorer):
    """Predict and refine: g(y) says a first picture, a diffusion of the residual z_0 = x_0 - g(y) the rest.

    L = |f(sqrt(gamma) z_0 + sqrt(1 - gamma) eps, y, gamma) - eps|, gamma between the levels of a table (as SR3): its
    gradient trains g as well, through z_0; there is no other loss on g, which is defined only up to what f takes over.
    x_0 = g(y) + z_0. All is convolutional: crops train, whole pictures are drawn. The mean of several draws gains PSNR
    and loses detail: of n exact ones it errs by (1 + 1 / n) tr Cov[x_0 | y].

    The levels of sampling are those of training, or with `walk` a linear table of `steps` betas that ends at `walk`:
    fewer steps and less noise give pictures nearer the mean, more give more detail. (The paper searches both.)

    Limits: g is computed once for a draw; at few steps draws spread too widely, as those of SR3 do.

    Args:
        predictor: widths of g, a U-Net without a clock (ours).
        first, last, levels: of the linear betas in training.
        walk: the last beta in sampling; 0.0: the levels of training.

    Source: Whang et al. 2022 (2112.02475); Saharia et al. 2022 (2104.07636) algorithms 1 and 2 for the levels.
    """

    predictor: tuple[int, ...] = (16, 32)
    first: float = 1e-6
    last: float = 1e-2
    levels: int = 2000
    walk: float = 0.0

    def process(self) -> Reverting:
        """The residual's process, seen from the picture; its anchor is the entry "anchor", g(y)."""
        return Reverting(Table.linear(self.levels, self.first, self.last), read=entry("anchor"))

    def model(self) -> Predicted:
        """The untrained denoiser, g inside; the network sees z_t and y."""
        process = self.process()
        inner = Preconditioned(self.net(), process.inner, of_signal)
        g = Regressor(UNet(self.channels, tuple(self.predictor), self.blocks, patch=self.patch))
        return Predicted(Residual(inner, process), g)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The absolute error of eps, at levels between those of the table too."""
        return Denoising(denoiser, Uniform(0.5 / self.levels, 1.0), eps_weight, power=1.0)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the variance beta."""
        return Ancestral(large)

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """Levels of the training table, or those whose SNR a table that ends at `walk` has."""
        if not self.walk:
            return super().times(steps)
        count, inner = steps or self.calls, self.process().inner
        table = Table.linear(count, self.first, self.walk)
        return (*(inner.time_of(table.log_snr(n / count)) for n in range(count, 0, -1)), 0.0)
