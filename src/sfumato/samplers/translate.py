"""Two states side by side, one of them a known picture noised anew at every level (Sasaki et al. 2021, 2104.05358)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.processes.variances import Reverse, large
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Translate(Sampler):
    """Ancestral steps of a state (x^A, x^B), halves of the channels; down to the release time x^B is q(x^B_s | y) anew.

    Both halves move at once, from the states of the same moment. Above the release time the denoiser's estimate of the
    second half is not used.

    Args:
        y: the picture of the second half, model space, (B, C, ...).
        release: the time at and below which the second half is drawn as the first is.
        reverse: the law of a step.

    Source: Sasaki et al. 2021 (2104.05358) algorithm 2.
    """

    y: Tensor = field(repr=False, compare=False)
    release: float = 0.0
    reverse: Reverse = field(default=large, repr=False)

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(s, float)
        xs = self.reverse(process, denoiser(xt, t), xt, t, s).sample(noise)
        if s > self.release:
            y = self.y.to(xs)
            xs = torch.cat([xs[:, : -y.shape[1]], process.marginal(y, s).sample(noise)], 1)
        return xs, memory
