"""EDM2: analyzing and improving the training dynamics of diffusion models (Karras et al. 2024, 2312.02696)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sfumato.denoisers import Denoiser, Preconditioned, edm
from sfumato.nets import MPUNet
from sfumato.processes import EDM
from sfumato.recipes.pictures import Labelled
from sfumato.training import LogNormal, PowerEma, Uncertain, edm_weight, inverse_sqrt


@dataclass(frozen=True)
class Recipe(Labelled):
    """EDM with a network whose every layer keeps magnitudes, weights held to a sphere, averages chosen afterwards.

    D as in EDM; loss (w / exp(u(sigma))) |D - x_0|^2 + u(sigma), u learned and then thrown away; weights normalised
    before each step (`objective` has `advance`, which `fit` calls), so that weight decay must be 0; the learning rate
    falls as 1 / sqrt(step) (`schedule`); `average` keeps power-function averages of two widths, from snapshots of which
    `training.reconstruct` makes one of any width. Sample with `samplers.Heun` on 32 Karras levels.

    The paper's networks have 64 to 192 channels times (1, 2, 3, 4), three blocks and attention at 16 and 8 pixels; the
    default here is small (ours). Data of standard deviation sigma_data. `sfumato train` runs AdamW with a small weight
    decay, which forced normalisation undoes at each step, and a plain moving average.

    Args:
        mean, std: of log sigma: -0.4 and 1.0 for latents (the default), -0.8 and 1.6 for pictures of 64 pixels.
        reference: steps after which the learning rate falls, 70000 (35000 for 64 pixels).
        warmup: steps over which it rises: 10 million pictures in batches of 2048.

    Source: Karras et al. 2024 (2312.02696) config G, tables 5 and 6.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    mean: float = -0.4
    std: float = 1.0
    reference: int = 70_000
    warmup: int = 4883

    def process(self) -> EDM:
        """alpha = 1, sigma from sigma_min to sigma_max."""
        return EDM(self.sigma_min, self.sigma_max)

    def net(self) -> nn.Module:
        """The magnitude-preserving U-Net."""
        return self.build(MPUNet)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), edm(self.sigma_data))

    def objective(self, denoiser: Denoiser) -> Uncertain:
        """The loss with its learned uncertainty, and forced weight normalisation before each step."""
        times, weight = LogNormal(self.mean, self.std), edm_weight(self.sigma_data)
        return Uncertain(denoiser, times, weight, **self.dropping())

    def schedule(self) -> Callable[[int], float]:
        """The factor of the learning rate, whose reference is 0.012 (64 channels) to 0.0065 (384)."""
        return inverse_sqrt(self.reference, warmup=self.warmup)

    def average(self, denoiser: Denoiser) -> PowerEma:
        """Averages of relative width 0.05 and 0.10, to be updated after each step."""
        return PowerEma(denoiser, (0.05, 0.10))
