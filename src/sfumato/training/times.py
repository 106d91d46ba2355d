"""Where training spends its noise levels: a law of t for each sample, drawn from a `Noise`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.likelihood import log_snr_rate
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Process, Table

TimeLaw = Callable[[Process, int, Noise], Tensor]


@dataclass(frozen=True)
class Uniform:
    """t uniform on [low, high)."""

    low: float = 1e-5
    high: float = 1.0

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))
        return self.low + (self.high - self.low) * u

    def density(self, process: Process, t: Tensor) -> Tensor:
        """That of one sample, (B,)."""
        return torch.full_like(t, 1.0 / (self.high - self.low))


@dataclass(frozen=True)
class Levels:
    """One of `count` levels with equal probability: t = i / (count - 1), both ends among them."""

    count: int

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        index = noise.choice(torch.ones(batch, self.count, dtype=torch.float64))
        return index.double() / (self.count - 1)


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


@dataclass(frozen=True)
class Mode:
    """t = 1 - u - scale (cos(pi u / 2)^2 - 1 + u), u uniform: more in the middle for scale > 0.

    Source: Esser et al. 2024 (2403.03206) eq. 20.
    """

    scale: float = 1.29

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))
        return 1.0 - u - self.scale * (torch.cos(0.5 * math.pi * u) ** 2 - 1.0 + u)


@dataclass(frozen=True)
class CosMap:
    """t = 1 - 1 / (tan(pi u / 2) + 1), u uniform: the log SNR of the cosine schedule on the straight path.

    Its density is 2 / (pi (1 - 2 t + 2 t^2)). Source: Esser et al. 2024 (2403.03206) eq. 21 and 22.
    """

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))
        return 1.0 - 1.0 / (torch.tan(0.5 * math.pi * u) + 1.0)


@dataclass(frozen=True)
class Shifted:
    """t' = k t / (1 + (k - 1) t) of another law's t: on the straight path log SNR moves by -2 log k.

    Source: Esser et al. 2024 (2403.03206) eq. 23.
    """

    law: TimeLaw
    k: float = 3.0

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        t = self.law(process, batch, noise)
        return self.k * t / (1.0 + (self.k - 1.0) * t)


@dataclass(frozen=True)
class Steps:
    """t = n / N, n uniform on 1 .. N, the levels of a table. Source: Ho et al. 2020 (2006.11239) algorithm 1."""

    steps: int = 1000

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))
        return (torch.floor(u * self.steps) + 1.0) / self.steps


@dataclass(frozen=True)
class Antithetic:
    """t = n / N for the first half of a batch, n uniform on 1 .. N, and 1 + 1 / N - t for the rest, in the same order.

    Each row is uniform by itself; the second half depends on the first, by design. Source: public code of Song et al.
    2021 (2010.02502).
    """

    steps: int = 1000

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        t = Steps(self.steps)(process, batch, noise)
        half = (batch + 1) // 2
        return torch.cat([t[:half], 1.0 + 1.0 / self.steps - t[: batch - half]])


@dataclass(frozen=True)
class BetweenLevels:
    """alpha uniform between two neighbouring levels of a table, each pair with probability 1 / N; the first is 1.

    s ~ U{1 .. N}, alpha ~ U(l_s, l_{s-1}), l_0 = 1. Source: Chen et al. 2021 (2009.00713) section 2.2, algorithm 1.
    """

    table: Table

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64)) * self.table.steps
        levels = torch.tensor((1.0, *self.table.alpha_bars), dtype=torch.float64).sqrt()
        s = u.floor().long()
        alpha = levels[s + 1] + (u - s) * (levels[s] - levels[s + 1])
        alpha = alpha.clamp(max=1.0 - 1e-12)  # rounding may reach 1, where there is no noise to predict
        t: Tensor = self.table.time_of(2.0 * alpha.log() - torch.log1p(-alpha.square()))
        return t


@dataclass(frozen=True)
class LowDiscrepancy:
    """t_i = low + (high - low) mod(u + i / B, 1) for the B samples of a batch, one u for all: each uniform by itself.

    A row depends on the batch, by design. Source: Kingma et al. 2021 (2107.00630) appendix I.1.
    """

    low: float = 0.0
    high: float = 1.0

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))[0]
        return self.low + (self.high - self.low) * ((u + torch.arange(batch, dtype=torch.float64) / batch) % 1.0)

    def density(self, process: Process, t: Tensor) -> Tensor:
        """That of one sample, (B,)."""
        return torch.full_like(t, 1.0 / (self.high - self.low))


@dataclass(frozen=True)
class UniformLogSNR:
    """Density g^2 / sigma^2 / Z on [low, 1], which is log SNR uniform between its ends, Z = lambda(low) - lambda(1).

    Below `flat` the density is constant, that at `flat` (SDEFlow's debiased times); 0: nowhere.
    Source: Song et al. 2021 (2101.09258) section 3.3; Huang et al. 2021 (2106.02808) appendix, for `flat`.
    """

    low: float = 1e-5
    flat: float = 0.0

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(batch, dtype=torch.float64))
        edge, bottom, span, rate = self._parts(process)
        mass = u * (rate * (edge - self.low) + span)
        inside = process.time_of(bottom + (mass - rate * (edge - self.low)).clamp(min=0.0))  # type: ignore[attr-defined]
        return torch.where(mass < rate * (edge - self.low), self.low + mass / max(rate, 1e-300), inside)

    def density(self, process: Process, t: Tensor) -> Tensor:
        """That of one sample, (B,)."""
        assert isinstance(process, Gaussian)
        edge, _, span, rate = self._parts(process)
        total = rate * (edge - self.low) + span
        return torch.where(t < edge, rate, log_snr_rate(process, t)) / total

    def _parts(self, process: Process) -> tuple[float, float, float, float]:
        """Where the density begins to follow the process, log SNR at t = 1, its range, and the rate below."""
        assert isinstance(process, Gaussian)
        edge = max(self.low, self.flat)
        bottom: float = process.log_snr(1.0)
        rate = float(log_snr_rate(process, edge)) if edge > self.low else 0.0
        return edge, bottom, process.log_snr(edge) - bottom, rate


class LossAware(nn.Module):
    """t = n / N with p_n ~ sqrt(mean L_n^2) over the last `history` losses of each n: L_n / p_n then varies least.

    Uniform until every n has its history; then a share `uniform` of uniform is mixed in. The history is a buffer, saved
    with the weights. Source: Nichol & Dhariwal 2021 (2102.09672) eq. 18 and public code.
    """

    losses: Tensor
    counts: Tensor

    def __init__(self, steps: int, history: int = 10, uniform: float = 0.001) -> None:
        super().__init__()
        self.steps, self.uniform = steps, uniform
        self.register_buffer("losses", torch.zeros(steps, history, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(steps, dtype=torch.int64))

    def forward(self, process: Process, batch: int, noise: Noise) -> Tensor:
        drawn = noise.choice(self.probabilities().expand(batch, -1))
        return (drawn + 1.0).double() / self.steps

    def probabilities(self) -> Tensor:
        """p_n, n = 1 .. N, (N,)."""
        flat = torch.full_like(self.losses[:, 0], 1.0 / self.steps)
        if int(self.counts.min()) < self.losses.shape[1]:
            return flat
        root = self.losses.square().mean(1).sqrt()
        return (1.0 - self.uniform) * root / root.sum() + self.uniform * flat

    def density(self, process: Process, t: Tensor) -> Tensor:
        """N p_n, the density with respect to uniform steps, (B,)."""
        return self.steps * self.probabilities()[self._index(t)]

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Writes L_n at times t over the oldest of each n, row by row."""
        for n, loss in zip(self._index(t).tolist(), losses.detach().tolist(), strict=True):
            self.losses[n, int(self.counts[n]) % self.losses.shape[1]] = loss
            self.counts[n] += 1

    def _index(self, t: Tensor) -> Tensor:
        return torch.round(t * self.steps).long() - 1
