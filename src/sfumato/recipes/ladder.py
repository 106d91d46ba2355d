"""What score networks on a geometric ladder of noise levels share: NCSN, NCSNv2, adversarial score matching."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Geometric
from sfumato.recipes.pictures import Pictures
from sfumato.training import Denoising, Levels, eps_weight


@dataclass(frozen=True)
class Ladder(Pictures):
    """sigma_1 > ... > sigma_L, geometric, under alpha = 1.

    Args:
        sigma_max, sigma_min: sigma_1 and sigma_L, in the unit of the data; the papers' data are on [0, 1].
        levels: L.
    """

    sigma_max: float = 1.0
    sigma_min: float = 0.01
    levels: int = 10

    def process(self) -> Geometric:
        """alpha = 1, sigma from sigma_min to sigma_max; the ladder is t = i / (L - 1)."""
        return Geometric(self.sigma_min, self.sigma_max)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The score loss with weight sigma^2 at the levels of the ladder."""
        return Denoising(denoiser, Levels(self.levels), eps_weight)

    def times(self) -> tuple[float, ...]:
        """The ladder, its first level twice, so that it has its moves too."""
        return (1.0, *grids.uniform(self.levels - 1))

    def start(self, like: Tensor, noise: Noise) -> Tensor:
        """Uniform noise on [0, 1), where the papers begin; (B, *event)."""
        return noise.uniform(like)
