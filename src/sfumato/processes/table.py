"""A tabulated schedule: exact at t = n / N, linear in log SNR between."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.processes.base import Coefficient, Time
from sfumato.processes.schedules import VariancePreserving


@dataclass(frozen=True)
class Table(VariancePreserving):
    """alpha^2 at t = n / N is `alpha_bars[n - 1]`, n = 1 .. N; 1 at t = 0. Between, log SNR is linear in t.

    Below t = 1 / N, where log SNR has no finite left end, it grows as -2 log t (sigma is proportional to t); a table
    that ends at alpha_bar = 0 (zero terminal SNR) falls as 2 log(1 - t) over its last interval.

    Args:
        alpha_bars: falling numbers in [0, 1): the products of (1 - beta_i).
    """

    alpha_bars: tuple[float, ...]

    def __post_init__(self) -> None:
        bars = tuple(float(a) for a in self.alpha_bars)
        object.__setattr__(self, "alpha_bars", bars)
        falling = all(a > b for a, b in zip((1.0, *bars), bars, strict=False))
        if len(bars) < 2 or not falling or bars[-1] < 0.0:
            raise ValueError("Table needs at least two alpha_bars that fall from below 1 to 0 or above.")

    @classmethod
    def from_betas(cls, betas: Sequence[float]) -> Table:
        """The table with alpha_bar_n = prod_{i <= n} (1 - beta_i)."""
        bars, log = [], 0.0
        for beta in betas:
            log = log + math.log1p(-float(beta)) if beta < 1.0 else -math.inf
            bars.append(math.exp(log))
        return cls(tuple(bars))

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Table:
        """Linear betas, `first` to `last`. Source: Ho et al. 2020 (2006.11239) section 4."""
        return cls.from_betas([first + (last - first) * i / (steps - 1) for i in range(steps)])

    @classmethod
    def scaled_linear(cls, steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> Table:
        """Betas linear in their square root. Source: Rombach et al. 2022 (2112.10752), public configuration."""
        a, b = math.sqrt(first), math.sqrt(last)
        return cls.from_betas([(a + (b - a) * i / (steps - 1)) ** 2 for i in range(steps)])

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, clip: float = 0.999) -> Table:
        """Cosine alpha_bar with each beta at most `clip`. Source: Nichol & Dhariwal 2021 (2102.09672) eq. 17."""

        def bar(t: float) -> float:
            return math.cos((t + offset) / (1.0 + offset) * 0.5 * math.pi) ** 2

        return cls.from_betas([min(1.0 - bar((i + 1) / steps) / bar(i / steps), clip) for i in range(steps)])

    @classmethod
    def sigmoid(
        cls, steps: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, clip: float = 0.999
    ) -> Table:
        """alpha_bar(t) = (s(end) - s(start + t (end - start))) / (s(end) - s(start)), s(v) = sigmoid(v / tau), each
        beta at most `clip`. Source: Jabri et al. 2023 (2212.11972) algorithm 1; Chen 2023 (2301.10972) for tau.
        """

        def s(v: float) -> float:
            return 1.0 / (1.0 + math.exp(-v / tau))

        bars = [(s(end) - s(start + (end - start) * i / steps)) / (s(end) - s(start)) for i in range(steps + 1)]
        return cls.from_betas([min(1.0 - b / a, clip) for a, b in pairwise(bars)])

    @property
    def steps(self) -> int:
        """N, the number of noisy levels."""
        return len(self.alpha_bars)

    def zero_terminal(self) -> Table:
        """The same table with sqrt(alpha_bar) shifted and scaled so that it ends at 0 and starts where it did.

        Source: Lin et al. 2024 (2305.08891) algorithm 1.
        """
        roots = [math.sqrt(a) for a in self.alpha_bars]
        first, last = roots[0], roots[-1]
        bars = [((r - last) * first / (first - last)) ** 2 for r in roots]
        return Table((*bars[:-1], 0.0))

    def alpha(self, t: Time) -> Coefficient:
        return self._root(self.log_snr(t))

    def sigma(self, t: Time) -> Coefficient:
        return self._root(-self.log_snr(t))

    def log_snr(self, t: Time) -> Coefficient:
        if isinstance(t, Tensor):
            return self._tensor_log_snr(t)
        n, values = t * self.steps, self._log_snrs
        if t <= 0.0:
            return math.inf
        if n <= 1.0:
            return values[0] - 2.0 * math.log(n)
        i = min(int(n), self.steps - 1)
        if n == i:
            return values[i - 1]
        if values[i] == -math.inf:
            return values[i - 1] + 2.0 * math.log(i + 1 - n) if n < i + 1 else -math.inf
        return values[i - 1] + (n - i) * (values[i] - values[i - 1])

    def time_of(self, log_snr: Time) -> Coefficient:
        if isinstance(log_snr, Tensor):
            times = [self.time_of(value) for value in log_snr.flatten().tolist()]
            return torch.tensor(times, dtype=torch.float64, device=log_snr.device).reshape(log_snr.shape)
        values = self._log_snrs
        if log_snr >= values[0]:
            return math.exp(-0.5 * (log_snr - values[0])) / self.steps
        i = bisect_left(values, -log_snr, key=lambda value: -value)
        if i >= self.steps:
            return 1.0
        if values[i] == -math.inf:
            return (i + 1 - math.exp(0.5 * (log_snr - values[i - 1]))) / self.steps
        return (i + (values[i - 1] - log_snr) / (values[i - 1] - values[i])) / self.steps

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        clock = torch.as_tensor(t, dtype=torch.float64)
        n, values = clock * self.steps, self._tensor.to(clock.device)
        i = n.floor().clamp(1, self.steps - 1).long()
        left, right = values[i - 1], values[i]
        alpha, sigma = self.alpha(clock), self.sigma(clock)
        # With alpha = cos(a), sigma = sin(a): tan(a) is linear in t on the first interval, 1 / tan(a) on one that falls
        # to zero SNR, log tan(a) elsewhere. So da/dt stays finite at both ends.
        turn = torch.where(right == -math.inf, (0.5 * left).exp() * sigma**2, 0.5 * (left - right) * alpha * sigma)
        turn = self.steps * torch.where(n <= 1.0, (-0.5 * values[0]).exp() * alpha**2, turn)
        d_alpha, d_sigma = -sigma * turn, alpha * turn
        return (d_alpha, d_sigma) if isinstance(t, Tensor) else (float(d_alpha), float(d_sigma))

    @cached_property
    def _log_snrs(self) -> list[float]:
        return [math.log(a) - math.log1p(-a) if a > 0.0 else -math.inf for a in self.alpha_bars]

    @cached_property
    def _tensor(self) -> Tensor:
        return torch.tensor(self._log_snrs, dtype=torch.float64)

    def _tensor_log_snr(self, t: Tensor) -> Tensor:
        return interpolated(self._tensor, t)

    @staticmethod
    def _root(log_snr: Time) -> Coefficient:
        """sqrt(sigmoid(log_snr)), without overflow."""
        if isinstance(log_snr, Tensor):
            return torch.sigmoid(log_snr).sqrt()
        if log_snr >= 0.0:
            return math.sqrt(1.0 / (1.0 + math.exp(-log_snr)))
        small = math.exp(log_snr)
        return math.sqrt(small / (1.0 + small))


def interpolated(values: Tensor, t: Tensor) -> Tensor:
    """Log SNR at times t of a table with `values` at n / N, (N,), as `Table` says; differentiable in both."""
    n, values = t.double() * len(values), values.to(t.device)
    i = n.floor().clamp(1, len(values) - 1).long()
    left, right = values[i - 1], values[i]
    part = (n - i).clamp(0.0, 1.0)
    last = right == -math.inf  # an interval that falls to zero SNR
    straight = left + part * (torch.where(last, left, right) - left)
    ending = left + 2.0 * torch.log1p(-torch.where(last, part, 0.0))
    inside = torch.where(last, ending, straight)
    return torch.where(n <= 1.0, values[0] - 2.0 * torch.log(n), inside)
