"""VDM: variational diffusion models (Kingma et al. 2021, 2107.00630)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, Scheme, predict_eps
from sfumato.likelihood import Bound, categorical, continuous_elbo, rescaled
from sfumato.noise import Noise
from sfumato.processes import Coefficient, LearnedEnds, LearnedSchedule
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Ancestral
from sfumato.training import Variational


@dataclass(frozen=True)
class Recipe(Pictures):
    """A diffusion model trained on its bound, noise schedule included: the ends for the bound, the shape for variance.

    -log p(x) <= KL(q(z_1 | x) | N(0, I)) - E log p(x | z_0) + 0.5 E_t gamma'(t) |eps - eps_hat|^2, gamma = -log SNR.
    The network sees Fourier features of z, which carry the last bits of a picture, and gamma scaled to [0, 1]. Data are
    the middles of 256 bins, 2 (k + 0.5) / 256 - 1; bits per dimension are `bound(...).bits(d)`, with no offset. The
    network is the library's U-Net; the paper's has no changes of resolution (ours).

    Source: Kingma et al. 2021 (2107.00630) eq. 11, 15 and 17, sections 4 and 5, appendix B and H; public code.
    """

    widths: tuple[int, ...] = (128,)
    blocks: int = 32
    attention: tuple[int, ...] = ()
    gamma_0: float = -13.3  # where the first end starts
    gamma_1: float = 5.0
    shape: bool = False  # learn the shape too; the public code learns the ends only
    fourier: tuple[int, ...] = (7, 8)  # n of sin(2^n pi z), cos(2^n pi z)

    def process(self) -> LearnedEnds:
        """The learned schedule, a module."""
        return (LearnedSchedule if self.shape else LearnedEnds)(self.gamma_0, self.gamma_1)

    def net(self) -> nn.Module:
        """The U-Net that predicts eps, behind Fourier features."""
        return Fourier(self.unet(entering=1 + 2 * len(self.fourier)), tuple(self.fourier))

    def scheme(self, alpha: Coefficient, sigma: Coefficient) -> Scheme:
        """predict_eps, its clock (gamma - gamma_0) / (gamma_1 - gamma_0) with the two starting ends."""
        c = predict_eps(alpha, sigma)
        return c._replace(c_noise=(-c.c_noise - self.gamma_0) / (self.gamma_1 - self.gamma_0))

    def model(self) -> Preconditioned:
        """The untrained denoiser; its parameters are those of the schedule too."""
        return Preconditioned(self.net(), self.process(), self.scheme)

    def objective(self, denoiser: Denoiser) -> Variational:
        """The bound in nats, with low-discrepancy times."""
        return Variational(denoiser)

    def sampler(self) -> Ancestral:
        """The paper's sampler: z_s = (alpha_s / alpha_t)(z_t - sigma_t c eps_hat) + sqrt(sigma_s^2 c) z, the bridge."""
        return Ancestral()

    def bound(self, denoiser: Denoiser, x0: Tensor, noise: Noise, points: int = 100) -> Bound:
        """The bound on -log P(x0), a probability of levels, with `points` calls of the denoiser."""
        return continuous_elbo(denoiser, x0, noise, end=0.0, points=points, readout=rescaled, decoder=categorical)


class Fourier(nn.Module):
    """`inner(u, c_noise, cond)` with sin(2^n pi u), cos(2^n pi u) appended to the channels, for each n.

    Source: Kingma et al. 2021 (2107.00630) appendix C.
    """

    def __init__(self, inner: nn.Module, exponents: tuple[int, ...]) -> None:
        super().__init__()
        self.inner, self.exponents = inner, exponents

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        angles = [u * (math.pi * 2**n) for n in self.exponents]
        return self.inner(torch.cat([u, *(f(a) for a in angles for f in (torch.sin, torch.cos))], 1), c_noise, cond)
