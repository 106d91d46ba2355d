"""ResDiff: combining CNN and diffusion model for image super-resolution (Shang et al. 2023, 2303.08714)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, Predicted, Residual
from sfumato.nets.resdiff import ResDiffNet, SmallCNN, frequency_loss
from sfumato.noise import Noise
from sfumato.processes import Reverting, Table, entry
from sfumato.processes.variances import small
from sfumato.recipes.restorer import Restorer
from sfumato.recipes.sr3_unet import of_signal
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Staged, Uniform, eps_weight

EXAMPLE = """\
sfumato train FOLDER --recipe resdiff --damage enlarge:4 --size 32 -o run
sfumato enhance small.png --model run --samples 4 -o out"""


class OfFrequencies(nn.Module):
    """`frequency_loss` of x_0 and m(y), (B,); nothing is drawn."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        return frequency_loss(x0, self.net(cond["image"]))


@dataclass(frozen=True)
class Recipe(Restorer):
    """A small CNN says the low frequencies m(y), a diffusion the residual z_0 = x_0 - m, told m and its frequencies.

    L = |f(z_t, m, gamma) - eps|, z_t = sqrt(gamma) z_0 + sqrt(1 - gamma) eps (as SR3), x_0 = m + z_0. The network sees
    z_t, m, z_t times a gate of the noise level, and a low and a high feature of m (a Gaussian high-pass filter whose
    width is predicted); what skips upwards is guided by the Haar details of m. The CNN is trained first, by square
    errors of pixels, frequencies and details, and then stands still. Sampling as in the public code: ancestral with the
    small variance, z_0 held to [-1, 1].

    Both stages are one run (ours): `pretrain` steps of the first. The CNN sees the enlarged picture, folded, and the
    guidance is attention across channels (ours: any size runs).

    Limits: with the paper's unit scale most levels see nothing of a small residual: `scale` near its standard deviation
    mends that. The table ends at gamma = 0.0066 though sampling begins at noise alone.

    Args:
        scale: of the residual, 1 in the paper: z_0 = (x_0 - m) / scale.
        factor: the CNN works at 1 / factor of the size.
        filters: of its first two layers.
        pretrain: steps of the first stage.
        first, last, levels: of the linear betas.

    Source: Shang et al. 2023 (2303.08714); public code for sizes, betas and the loss of the CNN.
    """

    scale: float = 1.0
    factor: int = 4
    filters: tuple[int, ...] = (64, 32)
    pretrain: int = 1000
    first: float = 1e-6
    last: float = 1e-2
    levels: int = 1000

    def process(self) -> Reverting:
        """The residual's process, seen from the picture; its anchor is the entry "anchor", m(y)."""
        return Reverting(Table.linear(self.levels, self.first, self.last), scale=self.scale, read=entry("anchor"))

    def net(self) -> nn.Module:
        """The U-Net with the features of m."""
        return ResDiffNet(self.unet(beside=4))

    def model(self) -> Predicted:
        """The untrained denoiser, the CNN inside."""
        process = self.process()
        inner = Preconditioned(self.net(), process.inner, of_signal)
        cnn = SmallCNN(self.channels, self.factor, tuple(self.filters))
        return Predicted(Residual(inner, process), cnn, learn=False)

    def objective(self, denoiser: Denoiser) -> Staged:
        """First the CNN's loss, then the absolute error of eps at levels between those of the table too."""
        assert isinstance(denoiser, Predicted)
        then = Denoising(denoiser, Uniform(0.5 / self.levels, 1.0), eps_weight, power=1.0)
        return Staged(denoiser, OfFrequencies(denoiser.predictor), then, self.pretrain)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """z_0 held to [-1, 1]."""
        assert isinstance(denoiser, Predicted) and isinstance(denoiser.inner, Residual)
        return Predicted(denoiser.inner.held(), denoiser.predictor, learn=False)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the small variance."""
        return Ancestral(small)
