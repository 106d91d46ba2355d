"""Processes that end at an anchor: x_t = alpha x_0 + (1 - alpha) m(y) + scale sigma eps.

It is the plain process on the residual x_0 - m(y), carried back. Mean-reverting restoration (IR-SDE, DriftRec),
residual models (SRDiff, ResShift), text-to-speech from an average voice (Grad-TTS), data-dependent priors (PriorGrad)
and bridges with a known end are anchors and scales, and every Gaussian sampler, parameterisation and objective works
on them unchanged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from sfumato.laws import Normal
from sfumato.processes.base import Coefficient, Time, exact, expand
from sfumato.processes.gaussian import Gaussian


def entry(key: str) -> Callable[[Any], Tensor]:
    """A function that reads one named entry of a condition that is a dict."""

    def read(cond: Any) -> Tensor:
        if key not in cond:
            raise ValueError(f"the condition has no entry {key!r}, it has {sorted(cond)}: bind denoiser.prepare(cond).")
        found: Tensor = cond[key]
        return found

    return read


class Pulled(Gaussian):
    """alpha x_0 + (1 - alpha) anchor + sigma eps on a schedule, `inner`; a subclass says what the anchor is."""

    inner: Gaussian

    @abstractmethod
    def _anchor(self, like: Tensor) -> Tensor:
        """The anchor of states like this one."""

    def alpha(self, t: Time) -> Coefficient:
        return self.inner.alpha(t)

    def shift(self, t: Time, like: Tensor) -> Tensor:
        return expand(1.0 - self.inner.alpha(exact(t)), like) * self._anchor(like)

    def shift_rate(self, t: Time, like: Tensor) -> Tensor:
        return -expand(self.inner.rates(exact(t))[0], like) * self._anchor(like)

    def log_snr(self, t: Time) -> Coefficient:
        return self.inner.log_snr(t)

    def time_of(self, log_snr: Time) -> Coefficient:
        return self.inner.time_of(log_snr)

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        return self.inner.rates(t)

    def _level(self, t: Time) -> Coefficient:
        return self.inner.sigma(t)


@dataclass(frozen=True)
class Anchored(Pulled):
    """alpha x_0 + (1 - alpha) anchor + scale sigma eps, with alpha and sigma of `inner`.

    Args:
        inner: the schedule.
        anchor: m(y), broadcastable to x; None until `bind` gives it.
        scale: elementwise factor of sigma: 1.0, or a tensor with all axes of x, (1 or B, *event).
        read: takes the anchor out of a condition; the condition itself by default, `entry(key)` for a dict.
        spread: takes the scale out of a condition, where that is what decides it.

    Source: Luo et al. 2023 (2301.11699) eq. 6 for the form; Lee et al. 2021 (2106.06406) eq. 3 for the scale.
    """

    inner: Gaussian
    anchor: Tensor | None = None
    scale: float | Tensor = 1.0
    read: Callable[[Any], Tensor] | None = None
    spread: Callable[[Any], Tensor] | None = None

    def bind(self, cond: Any) -> Anchored:
        """The process with its anchor, and its scale where `spread` is given, taken from `cond`; unchanged once an
        anchor is there, or without a condition."""
        if self.anchor is not None or cond is None:
            return self
        scale = self.spread(cond) if self.spread else self.scale
        return replace(self, anchor=self.read(cond) if self.read else cond, scale=scale)

    def sigma(self, t: Time) -> Coefficient:
        level = self._level(t)
        return level if isinstance(self.scale, float) and self.scale == 1.0 else self._times_scale(level)

    def prior(self, like: Tensor) -> Normal:
        """N(anchor, (scale sigma(1))^2), with the mean that the anchor has at t = 1."""
        law = self.inner.prior(like)
        return Normal(law.mean + self.shift(1.0, like), self._scaled(law.std, like))

    def _anchor(self, like: Tensor) -> Tensor:
        if self.anchor is None:
            raise ValueError("Anchored has no anchor yet: sample with denoiser.given(cond), or process.bind(cond).")
        return self.anchor.to(dtype=like.dtype, device=like.device)

    def _times_scale(self, level: Time) -> Tensor | float:
        return (expand(level, self.scale) if isinstance(self.scale, Tensor) else level) * self.scale


@dataclass(frozen=True)
class Reverting(Anchored):
    """Anchored, begun at the anchor itself: what is left of the residual x_0 - m(y) at t = 1 is neglected.

    Source: Li et al. 2022 (2104.14951) algorithm 2; Luo et al. 2023 (2301.11699).
    """

    def prior(self, like: Tensor) -> Normal:
        """N(anchor, (scale std)^2), std that of the prior of `inner`."""
        law = self.inner.prior(like)
        return Normal(self._anchor(like).expand_as(like), self._scaled(law.std, like))
