"""Windows of any one series: real ones of several kinds, and made ones, each on a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.noise import Noise, Seeds


class AnySeries:
    """Windows for a model of any series: (1, length), of unit size, drawn anew for every item.

    One window in two is made (`made`), the others come from the groups of real series, each group as often. A window is
    divided by the standard deviation of a random part of it and moved to that part's mean, since that is what will be
    known of a new series; one in four lacks a first part, as short series do, unless all are to be `whole`.

    Args:
        groups: of series (L,), NaN where missing; a series shorter than a window stands at its end.
        length: of a window.
        share: of the windows that are made.
        whole: no window lacks what its series has.
    """

    def __init__(
        self, groups: Sequence[Sequence[Tensor]], length: int = 128, share: float = 0.5, *, whole: bool = False
    ) -> None:
        self.groups, self.length, self.share, self.whole = [list(group) for group in groups], length, share, whole
        if any(not group for group in self.groups):
            raise ValueError("a group of series is empty: leave it out.")

    def __len__(self) -> int:
        return 2**20

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x0, {"valid"}), each (B, 1, length), float32; 0 where missing."""
        x = torch.stack([self.window(stream) for stream in noise.streams])[:, None]
        return x.nan_to_num(0.0).float(), {"valid": (~x.isnan()).float()}

    def window(self, noise: Noise) -> Tensor:
        """One window (length,), NaN where missing."""
        u = noise.uniform(torch.empty(7, dtype=torch.float64)).tolist()
        L = self.length
        x = made(L, noise) if u[0] < self.share or not self.groups else self._cut(u[1:4])
        if u[4] < 0.25 and not self.whole:
            x = torch.cat([x.new_full((int(0.75 * L * u[5]),), torch.nan), x[int(0.75 * L * u[5]) :]])
        known = (~x.isnan()).nonzero()[:, 0]
        if len(known) < 8:
            return self.window(noise)
        # The part whose mean and spread are known: at least a third of the window, anywhere in it.
        count = max(8, round(len(known) * (1 + 2 * u[6]) / 3))
        first = int(noise.uniform(torch.empty(1)).item() * (len(known) - count + 1))
        part = x[known[first : first + count]]
        spread = torch.maximum(part.std(), 0.1 * x[known].std())
        return ((x - part.mean()) / spread.clamp(min=1e-9)).clamp(-10.0, 10.0)

    def _cut(self, u: Sequence[float]) -> Tensor:
        group = self.groups[int(u[0] * len(self.groups))]
        series = group[int(u[1] * len(group))]
        if len(series) <= self.length:
            return torch.cat([series.new_full((self.length - len(series),), torch.nan), series])
        start = int(u[2] * (len(series) - self.length + 1))
        return series[start : start + self.length]


def made(length: int, noise: Noise) -> Tensor:
    """A series that never was, (length,): up to three periods with harmonics, an AR(1), a trend or a random walk."""
    u = noise.uniform(torch.empty(12, dtype=torch.float64)).tolist()
    t = torch.arange(length, dtype=torch.float64)
    z = noise.normal(torch.empty(2 * length + 24, dtype=torch.float64))
    phi = 1.0 - math.exp(-4.5 * u[0])  # 0 to 0.99
    x = math.exp(2.0 * u[1] - 1.0) * _ar1(z[:length], phi)
    for k in range(int(4 * u[2])):
        period = 4.0 * (length / 4.0) ** u[3 + k]
        a = z[2 * length + 8 * k : 2 * length + 8 * k + 8]
        for harmonic in range(1, 4):
            angle = 2 * math.pi * harmonic * t / period
            size = math.exp(2.0 * u[6 + k] - 0.5) / harmonic**1.5
            x = x + size * (a[harmonic] * angle.sin() + a[harmonic + 3] * angle.cos())
    if u[9] < 0.25:
        x = x + 3.0 * float(z[-1]) * t / length
    elif u[9] < 0.5:
        x = x + math.exp(1.5 * u[10] - 2.5) * z[length : 2 * length].cumsum(0)
    return x


def _ar1(w: Tensor, phi: float) -> Tensor:
    """x_t = phi x_{t-1} + sqrt(1 - phi^2) w_t, stationary, of unit variance."""
    lag = torch.arange(len(w))
    weights = torch.where(lag[:, None] >= lag, phi ** (lag[:, None] - lag).clamp(min=0).double(), 0.0)
    shocks = w * math.sqrt(1.0 - phi * phi)
    shocks[0] = w[0]
    return weights @ shocks
