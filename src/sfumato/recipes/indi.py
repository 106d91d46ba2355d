"""InDI: inversion by direct iteration (Delbracio & Milanfar 2023, 2303.11435)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Corrected, Denoiser
from sfumato.noise import Noise
from sfumato.processes import Anchored, Coefficient, Gaussian, Rectified, Time, entry, lib
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Sampler
from sfumato.training import Denoising, Uniform, x0_weight

EXAMPLE = """\
sfumato train FOLDER --recipe indi --damage motion:heavy --size 64 -o run
sfumato enhance blurred.png --model run --steps 10 -o out"""


@dataclass(frozen=True)
class Wandering(Rectified):
    """alpha = 1 - t, sigma = sqrt(t): the straight path with the noise of Brownian motion."""

    def sigma(self, t: Time) -> Coefficient:
        return lib(t).sqrt(t)

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        return (-torch.ones_like(t) if isinstance(t, Tensor) else -1.0), 0.5 / lib(t).sqrt(t)

    time_of = Gaussian.time_of


@dataclass(frozen=True)
class Direct(Sampler):
    """x_s = D + s/t (x_t - D) + s (eps_s^2 - eps_t^2)^(1/2) z, eps_t = sigma(t) / t: y is named in no step.

    With eps constant no noise is drawn; the step to s = 0 returns D. Source: Delbracio & Milanfar 2023 (2303.11435)
    eq. 8 and 11, algorithm 1.

    Raises:
        ValueError: where eps grows with t: less noise would be there than the state brings.
    """

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D = denoiser(xt, t).mean
        xs = torch.lerp(D, xt, s / t)
        there = process.sigma(s) ** 2
        fresh = there - (s / t * process.sigma(t)) ** 2
        if fresh < -1e-12 * there:
            raise ValueError(f"InDI needs sigma(t) / t that does not grow with t, and it does from {s} to {t}.")
        if fresh > 1e-12 * there:
            xs = xs + math.sqrt(fresh) * noise.normal(xt)
        return xs, memory


@dataclass(frozen=True)
class Recipe(Restorer):
    """A network that says what the clean picture is, asked again after each small step towards its answer.

    x_t = (1 - t) x_0 + t y + t eps_t n,   L = |F(x_t, t) - x_0|,   x_s = s/t x_t + (1 - s/t) F(x_t, t)

    One step is plain regression; more steps trade distortion for detail. There is no noise model, and the network is
    told nothing but x_t: what it does to the many x_0 of one y is carried by the little noise of the start, y + eps n.
    The network answers F - x_t (ours).

    Limits: not told y, draws of all y together have the law of x_0 as steps grow, but draws of one y have not
    that of x_0 given y: they tend to it as eps falls and steps times eps grows (eps 0.01: 100 steps reach a variance of
    0.46 where it is 1.14, 20,000 steps 1.135). `told=True` (ours) shows the network y,
    which is exact for any eps. eps = 0 gives the mean.

    Args:
        eps: noise for pictures in [0, 1] (twice as much in model space).
        wandering: eps_t = eps / sqrt(t), the noise of Brownian motion, some of it new in each step; else constant.
        told: the network sees y beside x_t.
        calls: K.

    Source: Delbracio & Milanfar 2023 (2303.11435) eq. 3, 6, 8 and 11; K and the size of eps vary by task there.
    """

    eps: float = 0.01
    wandering: bool = False
    told: bool = False
    calls: int = 10

    def process(self) -> Anchored:
        """The mix of the clean picture and the entry "image" of the condition."""
        inner = Wandering() if self.wandering else Rectified()
        return Anchored(inner, scale=2.0 * self.eps, read=entry("image"))

    def net(self) -> nn.Module:
        """The U-Net, with a place for y where `told`."""
        return self.unet(beside=int(self.told))

    def model(self) -> Corrected:
        """The untrained network as a denoiser."""
        return Corrected(self.net(), self.process())

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The absolute error of x_0 at uniform times."""
        return Denoising(denoiser, Uniform(), x0_weight, power=1.0)

    def sampler(self) -> Direct:
        """Steps towards the answer."""
        return Direct()
