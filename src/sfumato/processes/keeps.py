"""Schedules of processes on categories: keep(t), the share of positions that noise has not touched, from 1 to 0."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.processes.base import Coefficient, Time, lib


class Keep(ABC):
    """keep(t), falling from 1 at t = 0 to 0 at t = 1; a float for a float, a tensor for a tensor."""

    @abstractmethod
    def __call__(self, t: Time) -> Coefficient:
        """keep(t)."""

    @abstractmethod
    def slope(self, t: Tensor) -> Tensor:
        """-d keep / dt."""


@dataclass(frozen=True)
class Linear(Keep):
    """1 - t: on N steps, beta_n = 1 / (N - n + 1).

    Source: Sohl-Dickstein et al. 2015 (1503.03585) appendix B; Austin et al. 2021 (2107.03006) section 3.1.
    """

    def __call__(self, t: Time) -> Coefficient:
        return 1.0 - t

    def slope(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


LINEAR = Linear()


@dataclass(frozen=True)
class Cosine(Keep):
    """f(t) / f(0), f(t) = cos((t + offset) / (1 + offset) pi / 2), not squared: D3PM's schedule of the uniform process.

    It ends at 0; the public code holds the last beta to 0.999, and so ends just above.
    Source: Hoogeboom et al. 2021 (2102.05379) section 3; Austin et al. 2021 (2107.03006) appendix B, public code.
    """

    offset: float = 0.008

    def __call__(self, t: Time) -> Coefficient:
        # The sine of what is left: 0 at t = 1, where the cosine leaves rounding errors.
        scale = 0.5 * math.pi / (1.0 + self.offset)
        return lib(t).sin(scale * (1.0 - t)) / math.sin(scale)

    def slope(self, t: Tensor) -> Tensor:
        scale = 0.5 * math.pi / (1.0 + self.offset)
        return scale * torch.cos(scale * (1.0 - t)) / math.sin(scale)


@dataclass(frozen=True)
class Late(Keep):
    """1 - cos(pi / 2 (1 - t)): the cosine schedule of masked diffusion; few positions are known for most of the way.

    Source: Chang et al. 2022 (2202.04200) section 3.1; Shi et al. 2024 (2406.04329) table 4.
    """

    def __call__(self, t: Time) -> Coefficient:
        return 2.0 * lib(t).sin(0.25 * math.pi * (1.0 - t)) ** 2

    def slope(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * torch.sin(0.5 * math.pi * (1.0 - t))


@dataclass(frozen=True)
class Tabulated(Keep):
    """values[n - 1] at t = n / N, n = 1 .. N, 1 at t = 0, straight between."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in zip((1.0, *self.values), self.values, strict=False))
        if not self.values or not falling or self.values[-1] < 0.0:
            raise ValueError("a table of keep(t) falls from below 1 to 0 or above, at least one number.")

    def __call__(self, t: Time) -> Coefficient:
        steps = len(self.values)
        if isinstance(t, Tensor):
            table = torch.tensor((1.0, *self.values), dtype=torch.float64, device=t.device)
            n = (t.double() * steps).floor().clamp(0, steps - 1).long()
            return torch.lerp(table[n], table[n + 1], t.double() * steps - n)
        i = min(int(t * steps), steps - 1)
        left, right = (1.0, *self.values)[i : i + 2]
        return left + (t * steps - i) * (right - left)

    def slope(self, t: Tensor) -> Tensor:
        steps = len(self.values)
        table = torch.tensor((1.0, *self.values), dtype=torch.float64, device=t.device)
        n = (t.double() * steps).floor().clamp(0, steps - 1).long()
        return (table[n] - table[n + 1]) * steps


def mutual_information(matrix: Callable[[float], Tensor], p0: Tensor, steps: int) -> Tabulated:
    """The schedule on which information on x_0 is lost evenly: n / N = 1 - I(x_n; x_0) / H(x_0).

    Args:
        matrix: the moves Q_{t|0}, (K, K), at a share that is kept: `lambda keep: process.matrix(keep)`, or
            keep I + (1 - keep) rest for resampling. For an absorbing process the answer is `Linear`.
        p0: shares of the categories in the data, (K,).
        steps: N.

    Source: Austin et al. 2021 (2107.03006) eq. 6 and appendix A.7.
    """
    p0 = p0.double() / p0.sum()
    whole = float(-torch.xlogy(p0, p0).sum())

    def information(keep: float) -> float:
        joint = p0[:, None] * matrix(keep).double()
        return whole + float(torch.xlogy(joint, joint).sum() - torch.xlogy(joint.sum(0), joint.sum(0)).sum())

    values: list[float] = []
    for n in range(1, steps):
        low, high = 0.0, values[-1] if values else 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if information(middle) > whole * (1 - n / steps) else (middle, high)
        values.append(0.5 * (low + high))
    return Tabulated((*values, 0.0))
