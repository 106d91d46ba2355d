"""Self-conditioning: a network that is shown its own last estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser, Recorded
from sfumato.noise import Noise
from sfumato.processes import Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class SelfConditioned(Sampler):
    """`sampler` on D(x_t, t, last), where `last` is the estimate of x_0 that its last call gave; none at first.

    The condition is the estimate alone: for networks that were trained so. Memory: that of `sampler`, and the estimate.
    Source: Chen et al. 2023 (2208.04202) section 3.2 and algorithm 2.
    """

    sampler: Sampler

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.sampler.init(denoiser, xt), None

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        inner, last = memory
        seen = Recorded(denoiser if last is None else denoiser.given(last))
        xs, inner = self.sampler.step(seen, xt, t, s, inner, noise)
        return xs, (inner, last if seen.last is None else seen.last.mean)

    def restart(self, denoiser: Denoiser, xt: Tensor, memory: Any) -> Any:
        return self.sampler.restart(denoiser, xt, memory[0]), memory[1]
