"""SNIPS: solving noisy inverse problems stochastically (Kawar et al. 2021, 2105.14951).

The noise of each level sigma is taken as a part of the measurement noise, so that in the singular basis direction j
has its own gradient and step size. With k = sigma_y / s_j (infinite where s_j = 0), D the denoised x and y_j the data,

    sigma < k:   h = sigma^2 (1 - w),   h g = w (y_j - x_j) + (1 - w) (D_j - x_j),   w = (sigma / k)^2
    sigma > k:   h = sigma^2 - k^2,     h g = y_j - x_j

and the move is x_j <- x_j + c h g + sqrt(2 c h) z. Written so, with h inside, nothing is singular at sigma = k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement, Spectral
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver
from sfumato.solvers.ddrm import Directions, directions


@dataclass(frozen=True)
class SNIPS(Solver):
    """Annealed Langevin dynamics in the singular basis of A, towards p(x_0 + n | y), n of the last level.

    Exact up to mixing: at levels below sigma_y / s the stationary law of small moves is p(x_0 + n | y), n a part of
    the measurement noise, so that |y - A x|^2 is that of the noise, not 0. Steps mix badly between modes. Steps of the
    grid move at their first time and then hand x / alpha to the next level; the last small noise stays.

    Args:
        steps: levels.
        moves: Langevin moves at each.
        size: c, step size in parts of the variance of the level: step_lr / sigma_last^2 of the paper.
        high, low: first and last noise level sigma / alpha; the range of x_0 in model space.

    Source: Kawar et al. 2021 (2105.14951) algorithm 1 and its appendix; defaults of the public CelebA run.
    """

    steps: int = 500
    moves: int = 5
    size: float = 0.033
    high: float = 90.0
    low: float = 0.01
    needs = Spectral

    def __post_init__(self) -> None:
        if not (self.size > 0.0 and self.high > self.low > 0.0):
            raise ValueError(f"SNIPS: size > 0 and high > low > 0, got {self.size}, {self.high}, {self.low}.")

    def times(self, process: Gaussian) -> Times:
        start, end = (process.time_of(-2.0 * math.log(level)) for level in (self.high, self.low))
        first, last = process.log_snr(start), process.log_snr(end)
        inner = grids.log_snr(process, max(self.steps - 1, 1), low=first, high=last, start=start, end=end)
        return (*inner, 0.0)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Directions:
        process = denoiser.process
        assert isinstance(process, Gaussian)
        return directions(m, process, xt)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Spectral)
        alpha, sigma = process.alpha(t), process.sigma(t) / process.alpha(t)
        weight = (sigma / memory.k).square().clamp(max=1.0)
        h = torch.where(memory.k > sigma, sigma**2 * (1.0 - weight), sigma**2 - memory.k**2)
        x = operator.Vt((xt - process.shift(t, xt)) / alpha)
        for _ in range(self.moves):
            D = operator.Vt(denoiser(process.marginal(operator.V(x), t).mean, t).mean)
            drift = weight * (memory.y - x) + (1.0 - weight) * (D - x)
            x = x + self.size * drift + (2.0 * self.size * h).sqrt() * operator.Vt(noise.normal(xt))
        return process.marginal(operator.V(x), s).mean, memory


Recipe = SNIPS
