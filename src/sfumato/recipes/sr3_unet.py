"""Models of the public re-implementation of SR3 (2104.07636), as its checkpoints have them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.denoisers import Clipped, Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.preconditioned import Scheme
from sfumato.nets.sr3_unet import SR3UNet
from sfumato.processes import Coefficient, Table
from sfumato.processes.variances import small
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Uniform, eps_weight

EXAMPLE = "sfumato convert I640000_E37_gen.pth -o model"


def of_signal(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = eps, told alpha itself."""
    return predict_eps(alpha, sigma)._replace(c_noise=alpha)


@dataclass(frozen=True)
class Recipe:
    """SR3's U-Net on a table of N levels: what `sfumato convert` makes of these weights, and can be trained on.

    x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) eps; the network says eps and is told sqrt(abar_n), between levels too. A
    condition is the low-resolution image, enlarged to the size of the data (by bicubic interpolation, as it was
    trained), model space: {"image": (B, 3, H, W)}. Data in [-1, 1]. Sampling as published holds D to [-1, 1] (`guide`).

    Args:
        base: `inner_channel` of the code.
        widths: `inner_channel` times `channel_multiplier`.
        attention: levels of `attn_res`, 0 the finest.
        image: an image enters beside the data.
        groups: `norm_groups`.
        first, last, steps: of the linear betas.
        betas: instead of linear ones.
        size: side of the pictures that it was trained on; any side that the strides divide will run. 0: not known.

    Source: Saharia et al. 2021 (2104.07636) eq. 6 and algorithms 1 and 2; public code of Janspiry.
    """

    channels: int = 3
    base: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    blocks: int = 2
    attention: tuple[int, ...] = (3,)
    image: bool = True
    groups: int = 32
    first: float = 1e-6
    last: float = 1e-2
    steps: int = 2000
    betas: tuple[float, ...] = ()
    size: int = 128
    dropout: float = 0.0

    def process(self) -> Table:
        """The table of N levels."""
        if self.betas:
            return Table.from_betas(self.betas)
        return Table.linear(self.steps, self.first, self.last)

    def net(self) -> nn.Module:
        """The untrained network."""
        return SR3UNet(
            self.channels,
            self.base,
            self.widths,
            self.blocks,
            attention=self.attention,
            image=self.channels if self.image else 0,
            groups=self.groups,
            dropout=self.dropout,
        )

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), of_signal)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The square error of eps at levels between those of the table, where the code takes the absolute error."""
        return Denoising(denoiser, Uniform(0.5 / self.steps, 1.0), eps_weight)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1]."""
        return Clipped(denoiser)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the variance btilde, as in the code."""
        return Ancestral(small)
