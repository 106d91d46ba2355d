"""Small wrappers: one idea each, any denoiser inside."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sfumato.denoisers.base import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Time


class Clipped(Wrapper):
    """The mean held to [low, high], the range of the data in model space; other fields unchanged.

    Kills the gradient outside the range. Source: Ho et al. 2020 (2006.11239), public code.
    """

    def __init__(self, inner: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__(inner)
        self.low, self.high = low, high

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        return estimate._replace(mean=estimate.mean.clamp(self.low, self.high))


class Counted(Wrapper):
    """Counts the calls of `inner` in `calls`: the number of function evaluations, whatever the batch."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self._count = [0]  # shared by the copies that a bound condition makes

    @property
    def calls(self) -> int:
        """So far, those of copies on other processes among them."""
        return self._count[0]

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        self._count[0] += 1
        return self.inner(xt, t, cond)


class Recorded(Wrapper):
    """Keeps the last estimate, detached, in `last`: for previews while a sampler runs."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self.last: Estimate | None = None

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        self.last = estimate._replace(mean=estimate.mean.detach())
        return estimate


class MeanOnly(Wrapper):
    """`inner` without its variance: what a sampler that wants a point estimate sees."""

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return Estimate(self.inner(xt, t, cond).mean)
