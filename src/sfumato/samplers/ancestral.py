"""Ancestral sampling: each step draws from the reverse law of the process (Ho et al. 2020, 2006.11239)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Time
from sfumato.processes.variances import Reverse, known
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Ancestral(Sampler):
    """x_s ~ reverse(estimate, x_t): mean and, where the denoiser knows it, variance of x_0; any process, any law.

    With the mean alone this is DDPM with the small variance, btilde. With the variance too it is exact in any number of
    steps on data whose elements are independent normals. Source: Ho et al. 2020 (2006.11239) eq. 7; Bao et al. 2022
    (2201.06503) theorem 1.

    Args:
        reverse: the law of a step: `known`, or `small`, `large`, `learned` of `sfumato.processes.variances`.
    """

    reverse: Reverse = field(default=known, repr=False)  # a function's repr holds an address, and a manifest must not

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        return self.reverse(denoiser.process, denoiser(xt, t), xt, t, s).sample(noise), memory
