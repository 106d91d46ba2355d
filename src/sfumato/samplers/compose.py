"""Samplers made of samplers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class Chain(Sampler):
    """The predictor from t to s, then the corrector at s (its step from s to s, which keeps the level).

    With `Langevin` or `SNRLangevin` after a predictor this is the PC sampler of the paper's algorithm; its public code
    corrects first. Memory: that of each. Source: Song et al. 2021 (2011.13456) algorithms 2 and 3.
    """

    predictor: Sampler
    corrector: Sampler

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.predictor.init(denoiser, xt), self.corrector.init(denoiser, xt)

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        first, second = memory
        xs, first = self.predictor.step(denoiser, xt, t, s, first, noise)
        xs, second = self.corrector.step(denoiser, xs, s, s, second, noise)
        return xs, (first, second)

    def restart(self, denoiser: Denoiser, xt: Tensor, memory: Any) -> Any:
        return self.predictor.restart(denoiser, xt, memory[0]), self.corrector.restart(denoiser, xt, memory[1])


@dataclass(frozen=True)
class Blend(Sampler):
    """`sampler`, with the known part overwritten after each step by a fresh draw of q(x_s | x_0 = y).

    x_s <- mask y_s + (1 - mask) x_s. Inpainting by replacement: simple and biased, the unknown part does not see the
    known one but through the network.

    Args:
        sampler: what moves the state.
        mask: 1 where y is known, else 0 (or a share between), broadcastable to x.
        y: the known data in model space, broadcastable to x.

    Source: Song et al. 2021 (2011.13456) appendix I.2; Song & Ermon 2019 (1907.05600) algorithm 2.
    """

    sampler: Sampler
    mask: Tensor
    y: Tensor

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.sampler.init(denoiser, xt)

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian)
        xs, memory = self.sampler.step(denoiser, xt, t, s, memory, noise)
        known = process.marginal(self.y.to(xs).expand_as(xs), s).sample(noise)
        return xs.lerp(known, self.mask.to(xs).expand_as(xs)), memory

    def restart(self, denoiser: Denoiser, xt: Tensor, memory: Any) -> Any:
        return self.sampler.restart(denoiser, xt, memory)
