"""Generative image denoising: diffusion whose forward chain is the noise itself (Xie et al. 2023, 2302.02398)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Corrected, Denoiser
from sfumato.noise import Noise
from sfumato.processes import Observed, Photons, Process, Speckle, entry
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Ancestral
from sfumato.training import Uniform

EXAMPLE = """\
sfumato train FOLDER --recipe dmid --damage noise:25 --set level=0.098 --size 64 -o run
sfumato enhance noisy.png --model run --samples 4 -o out"""


class Clean(nn.Module):
    """mean (x_0 - D(x_t, t))^2, t uniform, x_t drawn from whatever the process is."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.times = denoiser, Uniform(1e-3)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        t = self.times(self.denoiser.process, len(x0), noise).to(x0.device)
        xt = self.denoiser.process.marginal(x0, t).sample(noise)
        return (x0 - self.denoiser(xt, t, cond).mean).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Recipe(Restorer):
    """From the observed picture back to the clean one, along a chain that adds the instrument's own noise.

    Of a picture i in [0, 1], the noise variance at t being t times that of the observation:

        gaussian  x_t = i + level sqrt(t) eps                      back: the posterior of x_s given x_t and D
        poisson   k_t x_t ~ Poisson(k_t i), k_t = level / t        back: k_s x_s = k_t x_t + Poisson((k_s - k_t) D)
        gamma     x_t = i Gamma(k_t) / k_t, k_t = level / t        back: k_s x_s = k_t x_t + D Gamma(k_s - k_t)

    L = mean (F(x_t, t) - i)^2. Drawing begins at y itself, x_1, and needs tens of steps, over which the standard
    deviation falls evenly (ours); the last returns D. The network sees x_t alone: given it y says no more. It answers
    F - x_t (ours). Fewer steps, or the mean of several draws, trade detail for distortion.

    Limits: the noise must be known, and not be clipped. Training draws it from the chain: the damage of the training
    pairs is not looked at. Draws of gamma noise have the right mean and too narrow a spread in any number of steps,
    0.181 of a variance of 0.200 at 6 looks in all (data and prior), since D alone says too little: `Speckle.reverse`
    is exact with an estimate that has a variance, which this network has not.

    Args:
        noise: "gaussian", "poisson" or "gamma".
        level: standard deviation of gaussian noise, photons of a white pixel, or looks of a speckled picture.

    Source: Xie et al. 2023 (2302.02398) sections 3 and 4; the chains are built from additivity, as its own parameters
    are not public.
    """

    noise: str = "gaussian"
    level: float = 25.0 / 255.0
    calls: int = 20

    def __post_init__(self) -> None:
        if self.noise not in ("gaussian", "poisson", "gamma"):
            raise ValueError(f"noise is 'gaussian', 'poisson' or 'gamma', got {self.noise!r}.")
        if self.level <= 0.0:
            raise ValueError(f"level is above 0, got {self.level}.")

    def process(self) -> Process:  # type: ignore[override]
        """The chain from the clean picture to the entry "image" of the condition."""
        if self.noise == "gaussian":
            return Observed(2.0 * self.level, read=entry("image"))
        chain = Photons if self.noise == "poisson" else Speckle
        return chain(self.level, -1.0, 1.0, read=entry("image"))

    def net(self) -> nn.Module:
        """The U-Net on the state alone."""
        return self.unet(beside=0)

    def model(self) -> Corrected:
        """The untrained network as a denoiser."""
        return Corrected(self.net(), self.process())

    def objective(self, denoiser: Denoiser) -> Clean:
        """The square error of x_0 at uniform times."""
        return Clean(denoiser)

    def sampler(self) -> Ancestral:
        """Draws of what is missing."""
        return Ancestral()

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """Squares of even times."""
        return grids.power(steps or self.calls)
