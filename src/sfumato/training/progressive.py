"""Progressive distillation: a student whose step is two of its teacher's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Gaussian, expand
from sfumato.training.objectives import Weight, truncated_snr


class ProgressiveDistillation(nn.Module):
    """w mean (x~ - D(x_t, t))^2, x~ the estimate of x_0 whose one DDIM step t -> s is two of the teacher's.

        x~ = (z_s - (sigma_s / sigma_t) x_t) / (alpha_s - (sigma_s / sigma_t) alpha_t),   t = i / N, s = (i - 1) / N

    z_s the end of the teacher's steps t -> (t + s) / 2 -> s. A student without error sampled in N steps of
    `grids.uniform` gives what the teacher gives in 2 N.

    Args:
        denoiser: the student, which begins with the teacher's weights.
        teacher: E[x_0 | x_t], or the student of the round before; frozen.
        steps: N of the student.
        weight: w(alpha, sigma): `truncated_snr` or `v_weight`.

    Source: Salimans & Ho 2022 (2202.00512) algorithm 2, eq. 43 to 45.
    """

    def __init__(self, denoiser: Denoiser, teacher: Denoiser, steps: int, weight: Weight = truncated_snr) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"a student takes at least 1 step, got {steps}.")
        self.denoiser, self.teacher = denoiser, teacher.requires_grad_(False).eval()
        self.steps, self.weight = steps, weight

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), a mean over the event."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        u = noise.uniform(torch.empty(x0.shape[0], dtype=torch.float64)).to(x0.device)
        i = torch.floor(u * self.steps) + 1.0
        t, s = i / self.steps, (i - 1.0) / self.steps
        xt = process.marginal(x0, t).sample(noise)
        target = self.target(xt, t, s, cond)
        error = (target - self.denoiser(xt, t, cond).mean).flatten(1).square().mean(1)
        return error * torch.as_tensor(self.weight(process.alpha(t), process.sigma(t))).to(error)

    @torch.no_grad()
    def target(self, xt: Tensor, t: Tensor, s: Tensor, cond: Any = None) -> Tensor:
        """x~, (B, *event)."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        z, now = xt, t
        for then in (0.5 * (t + s), s):
            z = process.reverse(Estimate(self.teacher(z, now, cond).mean), z, now, then, 0.0).mean
            now = then
        # The step is linear in the estimate: subtract what it gives for 0, divide by the estimate's weight.
        without = process.reverse(Estimate(torch.zeros_like(xt)), xt, t, s, 0.0).mean
        return (z - without) / expand(process.weights(t, s, 0.0)[1], xt)

    def train(self, mode: bool = True) -> ProgressiveDistillation:
        super().train(mode)
        self.teacher.eval()
        return self
