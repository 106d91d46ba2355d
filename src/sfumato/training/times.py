"""Where training spends its noise levels: a law of t for each sample, drawn from a `Noise`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.processes import Gaussian, Process

TimeLaw = Callable[[Process, int, Noise], Tensor]


@dataclass(frozen=True)
class Uniform:
    """t uniform on [low, high)."""

    low: float = 1e-5
    high: float = 1.0

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class LogNormal:
    """log(sigma / alpha) ~ N(mean, std^2), held to the ends of the process.

    Source: Karras et al. 2022 (2206.00364) table 1.
    """

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        assert isinstance(process, Gaussian)
        z = noise.normal(torch.empty(batch, dtype=torch.float64))
        t: Tensor = process.time_of(-2.0 * (self.mean + self.std * z))
        return t


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(mean + std z). Source: Esser et al. 2024 (2403.03206) eq. 19."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        z = noise.normal(torch.empty(batch, dtype=torch.float64))
        return torch.sigmoid(self.mean + self.std * z)
