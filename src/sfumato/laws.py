"""Probability laws over a batch: what a process says of x_t given x_0, and of x_s given x_t."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.noise import Noise


class Law(ABC):
    """A distribution of one batch of states, (B, *event)."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The mean; for a categorical law the class probabilities."""

    @abstractmethod
    def sample(self, noise: Noise) -> Tensor:
        """One draw for each row of the batch."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log density or log mass of each row, in nats, (B,)."""

    @abstractmethod
    def kl(self, other: Law) -> Tensor:
        """KL(self | other) of each row, in nats, (B,)."""


@dataclass(frozen=True, slots=True)
class Normal(Law):
    """N(mean, std^2), independent elements.

    Args:
        mean: (B, *event).
        std: a float, or a tensor broadcastable to `mean`. The float 0.0 is a point, and draws no noise.
    """

    mean: Tensor  # type: ignore[assignment]
    std: float | Tensor = 1.0

    def sample(self, noise: Noise) -> Tensor:
        if isinstance(self.std, float):
            if self.std == 0.0:
                return self.mean
            return torch.add(self.mean, noise.normal(self.mean), alpha=self.std)
        return torch.addcmul(self.mean, self.std, noise.normal(self.mean))

    def log_prob(self, x: Tensor) -> Tensor:
        std = self._spread()
        return _rows(-0.5 * ((x - self.mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi), x)

    def kl(self, other: Law) -> Tensor:
        """KL between normals: 0.5 sum (r - 1 - log r + (m - m')^2 / s'^2), r = s^2 / s'^2."""
        if not isinstance(other, Normal):
            raise TypeError(f"the KL of a Normal is known to a Normal only, got {type(other).__name__}.")
        ratio = (self._spread() / other._spread()) ** 2
        gap = (self.mean - other.mean) / other._spread()
        return _rows(0.5 * (ratio - 1 - ratio.log() + gap**2), self.mean)

    def _spread(self) -> Tensor:
        std = torch.as_tensor(self.std, dtype=self.mean.dtype, device=self.mean.device)
        if not bool((std > 0).all()):
            raise ValueError("a density needs std > 0 everywhere; this Normal is a point in some directions.")
        return std


@dataclass(frozen=True, slots=True)
class Categorical(Law):
    """Independent categories with probabilities `probs`, (B, *event, K); states are int64, (B, *event)."""

    probs: Tensor

    @property
    def mean(self) -> Tensor:
        return self.probs

    def sample(self, noise: Noise) -> Tensor:
        return noise.choice(self.probs)

    def log_prob(self, x: Tensor) -> Tensor:
        return _rows(self.probs.gather(-1, x.unsqueeze(-1)).squeeze(-1).log(), x)

    def kl(self, other: Law) -> Tensor:
        if not isinstance(other, Categorical):
            raise TypeError(f"the KL of a Categorical is known to a Categorical only, got {type(other).__name__}.")
        # 0 log 0 = 0, and its gradient too: `xlogy` has 0 / 0 there.
        alive = self.probs > 0
        p, q = torch.where(alive, self.probs, 1.0), torch.where(alive, other.probs, 1.0)
        return (p * (p.log() - q.log())).flatten(1).sum(1)


@dataclass(frozen=True, slots=True)
class Gamma(Law):
    """Shifted, scaled gamma noise: shift + scale * G, G ~ Gamma(concentration, rate 1), elementwise.

    Its mean is shift + scale * concentration and its variance scale^2 * concentration.
    """

    concentration: Tensor
    scale: Tensor | float = 1.0
    shift: Tensor | float = 0.0

    @property
    def mean(self) -> Tensor:
        return self.shift + self.scale * self.concentration

    def sample(self, noise: Noise) -> Tensor:
        return self.shift + self.scale * noise.gamma(self.concentration)

    def log_prob(self, x: Tensor) -> Tensor:
        g, k = (x - self.shift) / self.scale, self.concentration
        log_scale = torch.as_tensor(self.scale, dtype=x.dtype, device=x.device).log()
        return _rows((k - 1) * g.log() - g - torch.lgamma(k) - log_scale, x)

    def kl(self, other: Law) -> Tensor:
        """KL between gamma laws of one shift, c = scale / scale'."""
        if not isinstance(other, Gamma):
            raise TypeError(f"the KL of a Gamma is known to a Gamma only, got {type(other).__name__}.")
        k, k2 = self.concentration, other.concentration
        c = torch.as_tensor(self.scale, dtype=k.dtype) / torch.as_tensor(other.scale, dtype=k.dtype)
        terms = (k - k2) * torch.digamma(k) - torch.lgamma(k) + torch.lgamma(k2) - k2 * c.log() + k * (c - 1)
        return _rows(terms, k)


def _rows(terms: Tensor, like: Tensor) -> Tensor:
    """Sum of the elementwise terms over the event of each row, (B,)."""
    return terms.expand(like.shape).reshape(like.shape[0], -1).sum(1)
