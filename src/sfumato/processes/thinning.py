"""Forward chains that are the noise of an instrument: from the clean picture at t = 0 to the observed one at t = 1.

A level t has precision k = precision / t, so that the noise variance of x_t is proportional to t, and x_u -> x_t is
Markov for u < t. With the clean intensity i = (x - low) / (high - low) >= 0:

    photons   k_t i_t ~ Poisson(k_t i_0)       later counts are thinned:  k_t i_t ~ Binomial(k_u i_u, k_t / k_u)
    speckle   i_t = i_0 Gamma(k_t) / k_t        later sums are shared:     k_t i_t = k_u i_u Beta(k_t, k_u - k_t)

The way back begins at what was observed, adds up, and draws what is missing with an estimate in the place of i_0:

    k_s i_s = k_t i_t + Poisson((k_s - k_t) D)      k_s i_s = k_t i_t + D Gamma(k_s - k_t).

Photons: in many steps that draws from the posterior, since the rate is linear in i_0. Speckle: it does not, the law of
its jumps is not linear in i_0, and the variance stays short. Where the estimate has a variance, both first draw i_0
from a law of that mean and variance, which is exact in any number of steps where the posterior is of that family (gamma
for photons, inverse gamma for speckle).

Source: Xie et al. 2023 (2302.02398) for chains that end at the observed picture; built here from additivity.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Gamma, Law, Normal, _rows
from sfumato.noise import Noise
from sfumato.processes.additive import GammaBridge
from sfumato.processes.base import Process, Time, expand, ordered
from sfumato.processes.pinned import Brownian

Read = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Observed(Brownian):
    """x_t = x_0 + size sqrt(t) eps, which begins its way back at the observed picture itself, y = x_0 + size eps.

    Args:
        size: the known noise level.
        y: the observed picture; None until `bind` gives it.
        read: takes y out of a condition; the condition itself by default.
    """

    y: Tensor | None = None
    read: Read | None = None

    def bind(self, cond: Any) -> Observed:
        """The process with y taken from `cond`; unchanged once it is there, or without a condition."""
        return self if self.y is not None or cond is None else replace(self, y=_read(self.read, cond))

    def prior(self, like: Tensor) -> Normal:
        """y itself: a point."""
        return Normal(_there(self.y).to(like).expand_as(like), 0.0)


@dataclass(frozen=True)
class Thinning(Process):
    """A chain of intensities that lose precision; see the head of this file.

    Args:
        precision: k at t = 1: photons of an intensity of 1, or looks of a speckled picture.
        low, high: model-space values of the intensities 0 and 1.
        y, read: as of `Observed`.
    """

    precision: float = 10.0
    low: float = 0.0
    high: float = 1.0
    y: Tensor | None = None
    read: Read | None = None

    def __post_init__(self) -> None:
        if self.precision <= 0.0 or self.high <= self.low:
            raise ValueError(
                f"precision > 0 and low < high are needed, got {self.precision}, {self.low} and {self.high}."
            )

    def bind(self, cond: Any) -> Thinning:
        """The process with y taken from `cond`; unchanged once it is there, or without a condition."""
        return self if self.y is not None or cond is None else replace(self, y=_read(self.read, cond))

    def prior(self, like: Tensor) -> Normal:
        """The observed picture itself: a point."""
        return Normal(_there(self.y).to(like).expand_as(like), 0.0)

    def marginal(self, x0: Tensor, t: Time) -> Law:
        if isinstance(t, float) and t == 0.0:
            return Normal(x0, 0.0)
        return self._added(self._intensity(x0).clamp(min=0.0), None, 0.0, self.precision / expand(t, x0))

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Law:
        """The state, and what is missing up to the precision of s drawn from the estimate; at s = 0 the estimate.

        A rate or a scale cannot be below 0, and an estimate that is counts as 0 there (its value is not held to 0).

        Raises:
            ValueError: if eta is not 1: there is no deterministic way back; if s > t anywhere; for tensor times.
        """
        if eta != 1.0 or isinstance(t, Tensor) or isinstance(s, Tensor):
            raise ValueError(f"counts and sums go back by draws (eta = 1), all rows at one time, got eta = {eta}.")
        ordered(t, s, "reverse goes towards data")
        if s == t:
            return Normal(xt, 0.0)
        if s == 0.0:
            return Normal(estimate.mean, 0.0)
        var = None if estimate.var is None else estimate.var / (self.high - self.low) ** 2
        mean = self._intensity(estimate.mean).clamp(min=0.0)
        k_t, k_s = self.precision / t, self.precision / s
        return self._added(mean, var, k_t * self._intensity(xt), k_s - k_t, k_s)

    @abstractmethod
    def _added(
        self, mean: Tensor, var: Tensor | None, there: Tensor | float, missing: Tensor | float, k: Time | None = None
    ) -> Law:
        """Law of low + (high - low) (there + a draw of precision `missing`) / k, i_0 of this mean and variance."""

    def _intensity(self, x: Tensor) -> Tensor:
        return (x - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Photons(Thinning):
    """Counts: k_t i_t ~ Poisson(k_t i_0), k_t = precision / t."""

    def forward(self, xt: Tensor, t: Time, s: Time) -> Law:
        """Counts thinned: each is kept with probability t / s. States are rounded to whole counts.

        Raises:
            ValueError: if s < t, for tensor times, and for t = 0 unless s = 0 too: the clean picture has no counts; its
                `marginal` has.
        """
        t, s = _floats(t, s)
        if s == t:
            return Normal(xt, 0.0)
        if t == 0.0:
            return self.marginal(xt, s)
        counts = (self._intensity(xt) * self.precision / t).round()
        return Thinned(counts, t / s, (self.high - self.low) * s / self.precision, self.low)

    def _added(
        self, mean: Tensor, var: Tensor | None, there: Tensor | float, missing: Tensor | float, k: Time | None = None
    ) -> Law:
        unit = (self.high - self.low) / (missing if k is None else k)
        there = there.round() if isinstance(there, Tensor) else there  # a stored picture may lie between two counts
        return Counts(mean * missing, None if var is None else var * missing**2, there, unit, self.low)


@dataclass(frozen=True)
class Speckle(Thinning):
    """Multiplied gamma noise of mean 1: i_t = i_0 Gamma(k_t) / k_t, k_t = precision / t; precision is the looks."""

    def forward(self, xt: Tensor, t: Time, s: Time) -> Law:
        """A share Beta(k_s, k_t - k_s) of the sum k_t i_t.

        Raises:
            ValueError: if s < t, or for tensor times.
        """
        t, s = _floats(t, s)
        if s == t:
            return Normal(xt, 0.0)
        if t == 0.0:
            return self.marginal(xt, s)
        k_t, k_s = self.precision / t, self.precision / s
        width = (xt.double() - self.low) * (k_t / k_s)
        return GammaBridge(torch.full_like(width, self.low), width, k_s, k_t - k_s, xt.dtype)

    def _added(
        self, mean: Tensor, var: Tensor | None, there: Tensor | float, missing: Tensor | float, k: Time | None = None
    ) -> Law:
        unit = (self.high - self.low) / (missing if k is None else k)
        shape = torch.as_tensor(missing, dtype=mean.dtype, device=mean.device).expand_as(mean)
        return Sums(shape, mean, var, self.low + unit * there, unit)


@dataclass(frozen=True)
class Counts(Law):
    """low + unit (there + N), N ~ Poisson(rate), the rate gamma distributed about its mean where it has a variance."""

    rate: Tensor
    var: Tensor | None
    there: Tensor | float
    unit: Tensor | float
    low: float

    @property
    def mean(self) -> Tensor:
        return self.low + self.unit * (self.there + self.rate)

    def sample(self, noise: Noise) -> Tensor:
        rate = self.rate
        if self.var is not None:
            sure = (self.var <= 0.0) | (rate <= 0.0)
            scale = torch.where(sure, 1.0, self.var / torch.where(sure, 1.0, rate))
            rate = torch.where(sure, rate, scale * noise.gamma(torch.where(sure, 1.0, rate / scale)))
        return self.low + self.unit * (self.there + noise.poisson(rate))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log mass of whole counts, where the rate is known.

        Raises:
            ValueError: for a rate with a variance.
        """
        if self.var is not None:
            raise ValueError("the mass of counts is given for a known rate: take an estimate without a variance.")
        n = ((x - self.low) / self.unit - self.there).round()
        return _rows(torch.xlogy(n, self.rate) - self.rate - torch.lgamma(n + 1.0), x)

    def kl(self, other: Law) -> Tensor:
        """Of two Poisson laws on the same counts: sum r log(r / r') - r + r'."""
        if not isinstance(other, Counts) or self.var is not None or other.var is not None:
            raise TypeError(f"the KL of Counts is known to Counts of known rates only, got {type(other).__name__}.")
        r, q = self.rate, other.rate
        return _rows(torch.xlogy(r, r) - torch.xlogy(r, q) - r + q, r)


@dataclass(frozen=True)
class Thinned(Law):
    """low + unit N, N ~ Binomial(counts, kept)."""

    counts: Tensor
    kept: float
    unit: float
    low: float

    @property
    def mean(self) -> Tensor:
        return self.low + self.unit * self.kept * self.counts

    def sample(self, noise: Noise) -> Tensor:
        return self.low + self.unit * noise.binomial(self.counts, self.kept)

    def log_prob(self, x: Tensor) -> Tensor:
        n = ((x - self.low) / self.unit).round()
        p, rest = (torch.tensor(v, dtype=x.dtype) for v in (self.kept, 1.0 - self.kept))
        ways = torch.lgamma(self.counts + 1.0) - torch.lgamma(n + 1.0) - torch.lgamma(self.counts - n + 1.0)
        return _rows(ways + torch.xlogy(n, p) + torch.xlogy(self.counts - n, rest), x)

    def kl(self, other: Law) -> Tensor:
        raise TypeError("the KL of thinned counts is not given: compare log_prob on draws.")


@dataclass(frozen=True)
class Sums(Law):
    """shift + unit i Gamma(shape), i the mean, or inverse gamma distributed about it where it has a variance."""

    shape: Tensor
    level: Tensor
    var: Tensor | None
    shift: Tensor | float
    unit: Tensor | float

    @property
    def mean(self) -> Tensor:
        return self.shift + self.unit * self.level * self.shape

    def sample(self, noise: Noise) -> Tensor:
        level = self.level
        if self.var is not None:
            sure = self.var <= 0.0
            a = torch.where(sure, 3.0, 2.0 + level**2 / torch.where(sure, 1.0, self.var))
            level = torch.where(sure, level, level * (a - 1.0) / noise.gamma(a))
        return self.shift + self.unit * level * noise.gamma(self.shape.contiguous())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, where the level is known.

        Raises:
            ValueError: for a level with a variance.
        """
        if self.var is not None:
            raise ValueError("the density of sums is given for a known level: take an estimate without a variance.")
        return Gamma(self.shape, self.unit * self.level, self.shift).log_prob(x)

    def kl(self, other: Law) -> Tensor:
        raise TypeError("the KL of sums is not given: compare log_prob on draws.")


def _read(read: Read | None, cond: Any) -> Tensor:
    return read(cond) if read else cond


def _there(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("the way back begins at what was observed: sample with denoiser.given(cond), or give x1.")
    return y


def _floats(t: Time, s: Time) -> tuple[float, float]:
    """Both times, for a step towards noise."""
    if isinstance(t, Tensor) or isinstance(s, Tensor):
        raise ValueError("counts and sums move with all rows at one time: give floats.")
    ordered(s, t, "forward goes towards noise")
    return t, s
