"""EDM: elucidating the design space of diffusion-based generative models (Karras et al. 2022, 2206.00364)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from sfumato.data.augment import LABELS
from sfumato.denoisers import Preconditioned, edm
from sfumato.nets import UNet
from sfumato.processes import EDM
from sfumato.recipes.pictures import Labelled
from sfumato.training import Denoising, LogNormal, edm_weight


@dataclass(frozen=True)
class Recipe(Labelled):
    """Noise added in one unit, a network with unit inputs and targets, levels drawn log-normally.

    D = c_skip x + c_out F(c_in x, log(sigma) / 4), w(sigma) |D - x_0|^2, log sigma ~ N(mean, std^2). The network is the
    library's U-Net, not the paper's (ours). With `augment` it is told how a training picture was augmented
    (`data.augment`), so that samples are not. With `groups` it normalises groups of channels over all positions, which
    learns faster of things that are seen whole, at one size (`benchmarks/training.py`).

    Source: Karras et al. 2022 (2206.00364) table 1, column "Ours".
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    mean: float = -1.2
    std: float = 1.2
    augment: bool = False
    groups: int = 0

    def net(self) -> nn.Module:
        """The untrained network."""
        return self.build(partial(UNet, augment=LABELS if self.augment else 0, groups=self.groups))

    def process(self) -> EDM:
        """alpha = 1, sigma from sigma_min to sigma_max."""
        return EDM(self.sigma_min, self.sigma_max)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), edm(self.sigma_data))

    def objective(self, denoiser: Preconditioned) -> Denoising:
        """The weighted denoising loss; conditions are dropped with probability `drop` where there are classes."""
        return Denoising(denoiser, LogNormal(self.mean, self.std), edm_weight(self.sigma_data), **self.dropping())
