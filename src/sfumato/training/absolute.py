"""The absolute error of the noise: the loss of SR3's public code and of those that follow it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Gaussian
from sfumato.training.objectives import Denoising


class AbsoluteNoise(Denoising):
    """mean |eps - eps_hat| of each sample, (B,), eps_hat the noise that leads from D to x_t; times as `Denoising`'s."""

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        return self.error(x0, cond, noise)[0].flatten(1).mean(1)

    def error(self, x0: Tensor, cond: Any, noise: Noise) -> tuple[Tensor, Estimate]:
        """|eps - eps_hat|, (B, *event), and the estimate that it is of."""
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        t = self.times(process, len(x0), noise).to(x0.device)
        eps = noise.normal(x0)
        xt = process.perturb(x0, t, eps)
        estimate: Estimate = self.denoiser(xt, t, cond)
        return (eps - process.eps(xt, estimate.mean, t)).abs(), estimate
