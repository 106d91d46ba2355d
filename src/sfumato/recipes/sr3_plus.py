"""SR3+: diffusion models for robust image super-resolution in the wild (Sahak et al. 2023, 2302.07864)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.recipes.augmented import FEATURES, Augment
from sfumato.recipes.sr3 import Recipe as Plain
from sfumato.training import Denoising
from sfumato.training.told import told

EXAMPLE = """\
sfumato train FOLDER --recipe sr3-plus --damage real --size 64 -o run
sfumato enhance small.png --model run --samples 4 -o out"""


@dataclass(frozen=True)
class Recipe(Plain):
    """SR3 for pictures whose damage is not known: trained on a chain of damages, `real`, with a noised condition.

    y_up is replaced by c_tau = alpha(tau) y_up + sigma(tau) n, and the network is told tau beside the level of x_t. In
    training tau ~ U(0, most); in drawing it is `level`: 0 is SR3 itself, more trades fidelity for detail, up to 0.3.
    The network has no attention and takes any size.

    Limits: the damages are the library's own chain of two passes, milder than the paper's; `most` = 0.5 is not certain.

    Args:
        factor: by which y was enlarged; the damage `real` is a matter of 4.
        most: largest tau of training, in (0, 1].
        level: tau in drawing, in [0, most].

    Source: Sahak et al. 2023 (2302.07864) sections 3.1 to 3.3.
    """

    calls: int = 256
    factor: float = 4.0
    most: float = 0.5
    level: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.most <= 1.0 or not 0.0 <= self.level <= self.most:
            raise ValueError(f"0 <= level <= most <= 1 with most > 0, got level {self.level} and most {self.most}.")

    def net(self) -> nn.Module:
        """The U-Net, told tau."""
        return self.unet(vector=FEATURES)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The square error of eps under a noised condition."""
        return told(super().objective(denoiser), self.corrupted)

    def augment(self) -> Augment:
        """What corrupts: noise on y_up itself, along the table of training."""
        return Augment(self.process())

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """c_tau at the level of drawing."""
        return cond if "vector" in cond else self.augment()(cond, self.level, noise)

    def corrupted(self, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """c_tau of training, tau ~ U(0, most) for each row."""
        tau = self.most * noise.uniform(torch.empty(len(cond["image"]), dtype=torch.float64))
        return self.augment()(cond, tau, noise)
