"""EDM: elucidating the design space of diffusion-based generative models (Karras et al. 2022, 2206.00364)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.denoisers import Preconditioned, edm
from sfumato.nets import UNet
from sfumato.processes import EDM
from sfumato.training import Denoising, LogNormal, edm_weight


@dataclass(frozen=True)
class Recipe:
    """Noise added in one unit, a network with unit inputs and targets, levels drawn log-normally.

    D = c_skip x + c_out F(c_in x, log(sigma) / 4), w(sigma) |D - x_0|^2, log sigma ~ N(mean, std^2). The network is the
    library's U-Net, not the paper's (ours).

    Source: Karras et al. 2022 (2206.00364) table 1, column "Ours".
    """

    channels: int = 3
    widths: tuple[int, ...] = (64, 96, 128)
    blocks: int = 2
    patch: int = 1
    attention: tuple[int, ...] = ()
    dims: int = 2
    classes: int = 0
    dropout: float = 0.0
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    mean: float = -1.2
    std: float = 1.2
    drop: float = 0.1

    def process(self) -> EDM:
        """alpha = 1, sigma from sigma_min to sigma_max."""
        return EDM(self.sigma_min, self.sigma_max)

    def net(self) -> nn.Module:
        """The U-Net that is preconditioned."""
        return UNet(
            self.channels,
            tuple(self.widths),
            self.blocks,
            patch=self.patch,
            attention=tuple(self.attention),
            dims=self.dims,
            classes=self.classes,
            dropout=self.dropout,
        )

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), edm(self.sigma_data))

    def objective(self, denoiser: Preconditioned) -> Denoising:
        """The weighted denoising loss; conditions are dropped with probability `drop` where there are classes."""
        return Denoising(
            denoiser,
            LogNormal(self.mean, self.std),
            edm_weight(self.sigma_data),
            drop=self.drop if self.classes else 0.0,
            null=self.null,
        )

    def null(self, cond: object) -> object:
        """The label that means no class, for every row."""
        import torch

        assert isinstance(cond, torch.Tensor)
        return torch.full_like(cond, self.classes)
