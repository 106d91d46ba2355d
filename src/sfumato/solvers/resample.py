"""ReSample: solving inverse problems with latent diffusion models via hard data consistency (Song et al. 2024,
2307.08123)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.operators.levels import count
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.adam import Moments, adam
from sfumato.solvers.base import Solver, indexed
from sfumato.solvers.dps import pulled
from sfumato.solvers.latent import on_data

EXAMPLE = """\
sfumato sample latent -n 1 --seed 1 -o s   # a latent model of clothes, 28 x 28
sfumato restore s/sample-000.png --model latent --solver resample --operator deblur --std 1 \\
  --simulate --sigma 0.02 -o out"""


@dataclass(frozen=True)
class ReSample(Solver):
    """DPS in a latent space, and now and then an estimate that is made to fit y, noised to the level just reached.

    Each step is DDIM(z_t) - zeta alpha_t^2 grad_{z_t} |y - A G(D(z_t))|. In the last two thirds of the run, at each
    `every`-th step, z_0 = D after `travel` further calls by DDIM; then z^ = argmin |y - A G(z)|^2 by AdamW from z_0, in
    pixels x = G(z) and encoded in the middle third, in latents in the last; and

    z_s <- N((v alpha_s z^ + sigma_s^2 z_s) / (v + sigma_s^2), v sigma_s^2 / (v + sigma_s^2)),

    the product of N(alpha_s z^, sigma_s^2) and N(z_s, v), v = spread Var[x_s | x_t, x_0]. A last fit ends the run. The
    fit of a row stops where the mean square of what was measured is below max(tolerance, sigma_y)^2: the paper's
    tolerance is for data without noise, and below sigma_y it fits the noise ((ours); a row that fits is not moved at
    all). Far too little spread, as all fits of a point.

    The public code reads the schedule one level too high in the further steps, and takes (1 - alpha^2) eps for
    sigma eps in the z_0 that it fits: neither is copied. In a model of pixels G is the identity. A time is shared by
    the batch. Calls: steps + travel steps / (1.5 every), about; the fits call the decoder alone.

    Args:
        steps: the table's own, or uniform in t.
        zeta: of the pull at each step.
        every: steps from one fit to the next.
        travel: calls that sharpen z_0 before a fit.
        spread: v over the variance of an ancestral step; to be tuned, says the code.
        pixel_moves, latent_moves: most moves of a fit.
        pixel_lr, latent_lr: of AdamW, on data in [-1, 1] and on codes.
        decay: of AdamW, which the public code leaves at torch's own.
        patience: a fit of latents stops where it is no better than so many moves before.
        tolerance: root mean square of the misfit that is small enough.

    Source: Song et al. 2024 (2307.08123) algorithm 1 and proposition 1; settings of its public code, in which v has
    sigma_t^2 for the denominator where the paper prints alpha_t^2.
    """

    steps: int = 500
    zeta: float = 0.5
    every: int = 10
    travel: int = 5
    spread: float = 40.0
    pixel_moves: int = 2000
    latent_moves: int = 500
    pixel_lr: float = 1e-2
    latent_lr: float = 5e-3
    decay: float = 0.01
    patience: int = 200
    tolerance: float = 1e-3
    differentiates = True

    def __post_init__(self) -> None:
        if min(self.every, self.travel, self.patience) < 1:
            raise ValueError(
                f"ReSample: every, travel and patience are at least 1, got {self.every}, {self.travel} and "
                f"{self.patience}."
            )

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "trailing")

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        z = pulled(denoiser, m, xt, t, s, noise, self.zeta * process.alpha(t) ** 2, eta=0.0)
        levels = [s, *(u for u in self.times(process) if isinstance(u, float) and u < s)]
        left, third = len(levels) - 1, self.steps // 3
        if left % self.every == 0 and 0 < left <= self.steps - third:
            z0 = self.sharpened(denoiser, z, levels)
            z0 = self.in_pixels(m, z0) if left >= third else self.in_latents(m, z0)
            z = resampled(process, z0, z, s, self.spread * process.weights(t, s)[2] ** 2, noise)
        return (z if left > 0 else self.in_latents(m, z)), memory

    def sharpened(self, denoiser: Denoiser, z: Tensor, levels: list[float]) -> Tensor:
        """D after `travel` calls, each but the last followed by a step of DDIM down the levels."""
        for t, s in pairwise(levels[: self.travel + 1]):
            z0 = denoiser(z, t).mean
            z = denoiser.process.reverse(Estimate(z0), z, t, s, 0.0).mean  # type: ignore[call-arg]
        return z0

    def in_pixels(self, m: Measurement, z0: Tensor) -> Tensor:
        """The code of the picture nearest to G(z_0) that fits y, as AdamW finds it."""
        data, codec = on_data(m)
        return codec.encode(self.fit(data, codec.decode(z0), self.pixel_lr, self.pixel_moves))

    def in_latents(self, m: Measurement, z0: Tensor) -> Tensor:
        """A code near z_0 whose picture fits y, as AdamW finds it."""
        return self.fit(m, z0, self.latent_lr, self.latent_moves, self.patience)

    def fit(self, m: Measurement, x: Tensor, lr: float, moves: int, patience: int | None = None) -> Tensor:
        """x moved down the mean square of y - A x, each row until it is small, or no longer falls."""
        goal = max(m.sigma, self.tolerance) ** 2 * count(m)
        moments: Moments | None = None
        past: list[Tensor] = []
        open_ = torch.ones(len(m), dtype=torch.bool, device=x.device)
        for _ in range(moves):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                r = m.residual(x).abs().square().flatten(1)
                (g,) = torch.autograd.grad(r.mean(1).sum(), x)
            loss, x = r.detach().sum(1), x.detach()
            past = [*past[-patience:], loss] if patience else []
            open_ = open_ & (loss >= goal)
            if patience and len(past) > patience:
                open_ = open_ & (past[0] >= loss)
            if not bool(open_.any()):
                break
            move, moments = adam(g, moments, lr=lr)
            rows = open_.reshape(-1, *[1] * (x.ndim - 1))
            x = torch.where(rows, (1.0 - lr * self.decay) * x - move, x)
        return x.detach()


def resampled(process: Gaussian, z0: Tensor, z: Tensor, s: float, v: float, noise: Noise) -> Tensor:
    """A draw of the product of q(z_s | z_0) = N(alpha z_0, sigma^2) and N(z, v), (B, *event): z itself where v = 0.

    Source: Song et al. 2024 (2307.08123) proposition 1.
    """
    law, var = process.marginal(z0, s), process.sigma(s) ** 2
    return (v * law.mean + var * z) / (v + var) + (v * var / (v + var)) ** 0.5 * noise.normal(z)


Recipe = ReSample
