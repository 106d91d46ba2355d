"""SITCOM: step-wise triple-consistent sampling for inverse problems (Alkhouri et al. 2025, 2410.04479)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.operators.levels import chi_square
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.adam import Moments, adam
from sfumato.solvers.base import Solver, indexed


@dataclass(frozen=True)
class SITCOM(Solver):
    """At each level the input of the network is moved until its output fits y, and that output is noised again.

    v = argmin |y - A D(v, t)|^2 + lambda |v - x_t|^2,   x_s = alpha_s D(v, t) + sigma_s z,

    by Adam from v = x_t, each row until |y - A D|^2 < (sigma_y + 0.001)^2 n, n the numbers measured: it fits y to its
    noise and not below. Nearly a point: far too little spread. A time is shared by the batch.

    Args:
        steps: levels; the table's own steps, or uniform in t.
        moves: most Adam moves at a level, each a call of the network and a backward pass.
        lr: of Adam.
        lambda_: pull towards x_t.

    Source: Alkhouri et al. 2025 (2410.04479) algorithm 1; defaults of its public code, which returns the iterate
    nearest to the truth: not copied.
    """

    steps: int = 20
    moves: int = 30
    lr: float = 0.01
    lambda_: float = 0.0
    differentiates = True

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "trailing")

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, v = denoiser.process, xt
        assert isinstance(process, Gaussian)
        goal = replace(m, sigma=m.sigma + 0.001)
        moments: Moments | None = None
        for k in range(self.moves + 1):
            with torch.enable_grad():
                v = v.detach().requires_grad_()
                D = denoiser(v, t).mean
                loss = m.residual(D).abs().square().sum() + self.lambda_ * (v - xt).square().sum()
            open_ = chi_square(goal, D.detach()) >= 1.0
            if k == self.moves or not bool(open_.any()):
                break
            (g,) = torch.autograd.grad(loss, v)
            move, moments = adam(g, moments, lr=self.lr)
            v = torch.where(open_.reshape(-1, *[1] * (v.ndim - 1)), v.detach() - move, v.detach())
        return process.marginal(D.detach(), s).sample(noise), memory
