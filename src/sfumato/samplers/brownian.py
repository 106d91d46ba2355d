"""One Brownian path for all step sizes: a virtual tree, and the sampler that walks along it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class BrownianPath:
    """W(t) on [0, 1], W(0) = 0, as a function: the same number for the same seed, time and shape, nothing stored.

    W(1) is a draw; then each half of an interval is drawn given its ends, W((a + b) / 2) = (W(a) + W(b)) / 2 +
    sqrt(b - a) / 2 z, z from the stream of that node, down to intervals of 2^-depth, inside which W is linear.
    `depth` draws for a time, fewer for a dyadic one. With `Seeds` each row has a path of its own, whatever the batch.

    Args:
        noise: gives the seeds; nothing is drawn from its own stream.
        depth: halvings; steps should be much longer than 2^-depth.

    Source: Li et al. 2020 (2001.01328) section 4, algorithm 3.
    """

    noise: Noise
    depth: int = 20

    def __call__(self, t: float, like: Tensor) -> Tensor:
        """W(t), with the shape, dtype and device of `like`.

        Raises:
            ValueError: outside [0, 1].
        """
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"the path is there for times in [0, 1], got {t}.")
        a, b, index = 0.0, 1.0, 0
        low, high = torch.zeros_like(like), self.noise.at(("brownian", 0, 0)).normal(like)
        for level in range(1, self.depth + 1):
            if t in (a, b):
                break
            middle = 0.5 * (a + b)
            z = self.noise.at(("brownian", level, index)).normal(like)
            value = 0.5 * (low + high) + 0.5 * math.sqrt(b - a) * z
            if t < middle:
                b, high, index = middle, value, 2 * index
            else:
                a, low, index = middle, value, 2 * index + 1
        return low.lerp(high, (t - a) / (b - a))


@dataclass(frozen=True)
class AlongPath(Sampler):
    """A stochastic sampler driven by one Brownian path: z = (W(t) - W(s)) / sqrt(t - s) in each step.

    Runs with different grids then approximate the same solution of the reverse SDE, path by path: a sample keeps its
    content when the number of steps changes. The inner sampler may draw one normal array a step (`EulerMaruyama`,
    `ReverseDiffusion`, `Ancestral`, `DDIM`, the SDE forms of DPM-Solver++). The noise given to `step` is left alone,
    but for steps with s = t.

    Memory: (memory of the inner sampler, W at the last time).

    Source: Li et al. 2020 (2001.01328) section 4; public code of k-diffusion for the use in samplers.
    """

    sampler: Sampler
    path: BrownianPath = field(repr=False)

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.sampler.init(denoiser, xt), None

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        assert isinstance(t, float) and isinstance(s, float)
        inner, there = memory
        if s == t:
            xs, inner = self.sampler.step(denoiser, xt, t, s, inner, noise)
            return xs, (inner, there)
        there = self.path(t, xt) if there is None else there
        here = self.path(s, xt)
        xs, inner = self.sampler.step(denoiser, xt, t, s, inner, Increment((there - here) / math.sqrt(t - s)))
        return xs, (inner, here)


class Increment(Noise):
    """A stream that holds one normal array, already drawn.

    Raises:
        ValueError: on any draw but one of normal numbers of that shape.
    """

    def __init__(self, z: Tensor) -> None:
        super().__init__(0)
        self.z: Tensor | None = z

    def normal(self, like: Tensor) -> Tensor:
        if self.z is None or self.z.shape != like.shape:
            raise ValueError("a step along a path has one increment, of the state's shape: this sampler draws more.")
        z, self.z = self.z, None
        return z

    def _draw(self, like: Tensor, draw: Any) -> Tensor:
        raise ValueError("a step along a Brownian path draws normal numbers alone.")
