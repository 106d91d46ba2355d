"""Sequential Monte Carlo: every y has its own set of K particles, (B, K, *event), which nothing of the batch touches.

The particle axis is the second, so that one stream of `Seeds` serves the whole set of a row. The weighted set is in the
last step of a trajectory; a call returns one particle of each row, drawn by weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.processes import Time
from sfumato.solvers.base import Solver


class Particles(Solver):
    """A solver with K particles for each row of y; a subclass keeps `log_weight`, (B, K), in its memory."""

    particles: int

    def __post_init__(self) -> None:
        if self.particles < 1:
            raise ValueError(f"{type(self).__name__}: particles is at least 1, got {self.particles}.")

    def many(self, m: Measurement) -> Measurement:
        """The measurement with a row for each particle, (B K, *measured)."""
        return m.rows([row for row in range(len(m)) for _ in range(self.particles)])

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        """Particles of the prior, (B, K, *event)."""
        x = super().start(denoiser, self.many(m), t, Folded(noise, self.particles))
        return x.unflatten(0, (-1, self.particles))

    def __call__(self, denoiser: Denoiser, m: Measurement, noise: Noise) -> Tensor:
        *_, last = self.trajectory(denoiser, m, noise)
        one = ancestors(last.memory.log_weight, noise.uniform(last.memory.log_weight[:, :1]))
        return pick(last.x, one).squeeze(1)


class Folded(Noise):
    """The noise of (B, K, *event), for states whose rows are the B K particles."""

    def __init__(self, inner: Noise, particles: int) -> None:
        self.inner, self.particles = inner, particles

    def _draw(self, like: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        return self.inner._draw(like.unflatten(0, (-1, self.particles)), draw).flatten(0, 1)


def systematic(log_weight: Tensor, noise: Noise) -> Tensor:
    """Which particle each of K new ones copies, (B, K): one uniform number a row, particle k kept K w_k times to within
    one. Source: Kitagawa 1996 (10.2307/1390750) appendix."""
    K = log_weight.shape[1]
    return ancestors(log_weight, (noise.uniform(log_weight[:, :1]) + torch.arange(K, device=log_weight.device)) / K)


def multinomial(log_weight: Tensor, noise: Noise) -> Tensor:
    """Which particle each of K new ones copies, (B, K), drawn independently."""
    return ancestors(log_weight, noise.uniform(log_weight))


def ancestors(log_weight: Tensor, u: Tensor) -> Tensor:
    """The particles (B, n) at the places u in [0, 1), (B, n), of the cumulated weights."""
    cdf = torch.softmax(log_weight, 1).cumsum(1)
    at = torch.searchsorted(cdf, (u * cdf[:, -1:]).contiguous(), right=True)
    return at.clamp(max=log_weight.shape[1] - 1)


def effective(log_weight: Tensor) -> Tensor:
    """Effective number of particles, 1 / sum w^2, (B,)."""
    return 1.0 / torch.softmax(log_weight, 1).square().sum(1)


def pick(x: Any, index: Tensor) -> Any:
    """x (B, K, ...) at index (B, n), (B, n, ...)."""
    return x[torch.arange(len(index), device=index.device)[:, None], index]
