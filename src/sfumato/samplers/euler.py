"""Euler steps of the probability-flow ODE in t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time, expand
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Euler(Sampler):
    """x_s = x_t + (s - t) v(x_t, t), v the velocity of the flow: what flow-matching code runs. First order.

    On `Rectified` it is DDIM. Elsewhere DDIM, which is Euler in sigma / alpha, is the better first-order step. It needs
    a finite velocity: not t = 0 of a VP process as a start, but any end. Source: Lipman et al. 2023 (2210.02747) eq. 1.
    """

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian)
        v = process.velocity(xt, denoiser(xt, t).mean, t)
        if isinstance(t, float) and isinstance(s, float):
            return torch.add(xt, v, alpha=s - t), memory
        return xt + expand(s - t, xt) * v, memory
