"""ShadowDiffusion: when degradation prior meets diffusion model for shadow removal (Guo et al. 2023, 2212.04711)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.denoisers.shadowed import Lit, Shadowed
from sfumato.nets import UNet
from sfumato.nets.light import Light
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Process, Table, Time
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import DDIM
from sfumato.training.absolute import AbsoluteNoise

EXAMPLE = """\
sfumato train FOLDER --recipe shadow-diffusion --damage shadow --size 32 -o run
sfumato enhance shadow.png --mask mask.png --model run --samples 4 -o out"""

DIFFERENCE = 0.05  # of the mean over channels, in [0, 1], from which on a pixel counts as shadow


@dataclass(frozen=True)
class Recipe(Restorer):
    """A denoiser that sees (y, mask, x_t) and refines the mask, held to the physics of a shadow, y = h x.

    (eps, m') = f(y, m, x_t, t);  L = |eps - f|_1 + 0.5 |m' - 1[mean_c (x_0 - y) >= 0.05]|_1, sums over channels, x_0
    and y in [0, 1] for the mask. At each DDIM step (eta = 0) the estimate D is replaced by

        D' = argmin |y - h x|^2 + g |x - D|^2 = (h y + g D) / (h^2 + g)   in [0, 1],
        x_s = alpha_s D' + sigma_s eps,  with the eps of D, not that of D'.

    m is the rough mask given with y ("rough", else "mask"), the same at every step; m' is in `aux["mask"]` of the
    estimate, as in the release, which returns it and never feeds it back. g is 0.2 there at every step, meant to grow
    by 0.15 a step, but its counter never rises: `growth`.

    Departures: h = `Light`, a U-Net of the library's of y and m, is trained along, by |h x_0 - y|^2 in [0, 1] (ours;
    the release has a Uformer trained before); "light" beside y gives the true h. The grid begins at the last level
    (ours; the release's at N - N / steps, with pure noise all the same), and the network is told log SNR (ours).

    Limits: where h is wrong, so is D'; g = 0.2 leaves D a sixth of the weight in full light, h = 1. In windows
    (pictures beyond 512 pixels) the eps is that of D'.

    Args:
        levels, first, last: of the linear betas.
        weight, growth: g at the first of `calls` steps, and what each adds.
        mask_weight: of the loss of m'.
        least: bound of h from below (ours).

    Source: Guo et al. 2023 (2212.04711) for the method; settings, loss and step of the public code.
    """

    levels: int = 1000
    first: float = 1e-4
    last: float = 2e-2
    calls: int = 25
    weight: float = 0.2
    growth: float = 0.0
    mask_weight: float = 0.5
    least: float = 0.05

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.levels, self.first, self.last)

    def net(self) -> nn.Module:
        """2 C + 1 channels in, C + 1 out."""
        return self._unet(self.channels, image=self.channels + 1, out=self.channels + 1)

    def model(self) -> Shadowed:
        """The untrained denoiser with an untrained degradation."""
        light = Light(self._unet(self.channels + 1, image=0, out=self.channels), self.least)
        return Shadowed(self.net(), self.process(), light)

    def objective(self, denoiser: Denoiser) -> ShadowLoss:
        """Noise, mask and light."""
        return ShadowLoss(denoiser, Antithetic(self.levels), self.mask_weight)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D moved towards y = h x."""
        assert isinstance(denoiser, Shadowed)
        return Lit(denoiser, denoiser.light, self.strength)

    def strength(self, t: Time) -> float:
        """g at time t, on the grid of `calls` steps."""
        return self.weight + self.growth * self.calls * (1.0 - float(torch.as_tensor(t).flatten()[0]))

    def sampler(self) -> KeptNoise:
        """DDIM with the noise of D."""
        return KeptNoise()

    def _unet(self, channels: int, *, image: int, out: int) -> UNet:
        return UNet(
            channels, tuple(self.widths), self.blocks, patch=self.patch, attention=tuple(self.attention),
            dropout=self.dropout, image=image, out=out,
        )  # fmt: skip


@dataclass(frozen=True)
class KeptNoise(DDIM):
    """x_s = alpha_s D' + sigma_s eps, with the eps that a guide says in `aux["eps"]`; DDIM where it says none."""

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        estimate, process = denoiser(xt, t), denoiser.process
        assert isinstance(process, Gaussian)
        if estimate.aux is None or "eps" not in estimate.aux:
            return process.reverse(estimate, xt, t, s, 0.0).mean, memory
        return process.perturb(estimate.mean, s, estimate.aux["eps"]), memory


@dataclass(frozen=True)
class Antithetic:
    """Levels n = 1 .. N of a table for the first half of a batch, and N + 1 - n for the second; times n / N."""

    levels: int

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))[: batch // 2 + 1]
        n = (u * self.levels).floor() + 1.0
        return torch.cat([n, self.levels + 1.0 - n])[:batch] / self.levels


class ShadowLoss(AbsoluteNoise):
    """|eps - f|_1 + weight |m' - 1[mean_c (x_0 - y) >= 0.05]|_1 + |h x_0 - y|^2, sums over the channels of each pixel,
    divided by the numbers of x_0: (B,)."""

    def __init__(self, denoiser: Denoiser, times: Antithetic, mask_weight: float) -> None:
        super().__init__(denoiser, times)
        self.mask_weight = mask_weight

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        denoiser = self.denoiser
        assert isinstance(denoiser, Shadowed)
        error, estimate = self.error(x0, cond, noise)
        assert estimate.aux is not None
        clean, seen = (x0 + 1.0) / 2.0, (cond["image"] + 1.0) / 2.0
        shadow = ((clean - seen).mean(1, keepdim=True) >= DIFFERENCE).to(x0)
        parts = (
            error,
            self.mask_weight * (estimate.aux["mask"] - shadow).abs(),
            (denoiser.light(cond) * clean - seen).square(),
        )
        total: Tensor = sum(part.flatten(1).sum(1) for part in parts)  # type: ignore[assignment]
        return total / x0[0].numel()
