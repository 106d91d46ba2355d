"""DPM-Solver++ 2M: a second-order multistep step in log SNR (Lu et al. 2022, 2211.01095)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class DPMpp2M(Sampler):
    """One call a step, second order: D is extrapolated from the last two, then integrated exactly in half log SNR.

        x_s = (sigma_s / sigma_t) x_t - alpha_s expm1(-h) (D + w (D - D_last)),   w = h / (2 h_last),

    h the step in log(alpha / sigma), the paper's lambda (half of this library's log SNR). The first step, and a step to
    sigma = 0 or from alpha = 0, is first order. `w` is held to 1 (ours): a step twice as long as the one before has
    w = 1, and beyond that extrapolation does harm.

    Memory: (last D, last h). Source: Lu et al. 2022 (2211.01095) algorithm 2. Times are shared by the batch: floats.
    """

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D, h = denoiser(xt, t).mean, 0.5 * (process.log_snr(s) - process.log_snr(t))
        target = D
        if memory is not None and math.isfinite(h) and math.isfinite(memory[1]):
            last, h_last = memory
            target = D.lerp(last, -min(0.5 * h / h_last, 1.0))
        return process.reverse(Estimate(target), xt, t, s, 0.0).mean, (D, h)
