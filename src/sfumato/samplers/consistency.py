"""Multistep sampling of a consistency function (Song et al. 2023, 2303.01469)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers.base import Sampler

EXAMPLE = (
    "sfumato sample run --sampler consistency --steps 2 -o out   # run: by sfumato train --recipe consistency-models"
)


@dataclass(frozen=True)
class Consistency(Sampler):
    """x_s ~ q(x_s | x_0 = f(x_t, t)): the function's guess of the clean end, noised to the next level.

    The denoiser is a consistency function: its mean is the state at t = 0 of the flow through x_t, not E[x_0 | x_t].
    Where sigma(0) > 0 its values carry that noise already, so that only the rest, from time 0 to s, is added. The step
    to t = 0 returns f itself. Source: Song et al. 2023 (2303.01469) algorithm 1.
    """

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian)
        return process.forward(denoiser(xt, t).mean, 0.0, s).sample(noise), memory


Recipe = Consistency
