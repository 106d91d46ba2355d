"""Additive noise that is not normal: x_t = alpha x_0 + sigma e_t, with e_t of mean 0 and variance 1 at every level.

alpha, sigma, and so every first-order step, are those of a Gaussian process; only what is drawn differs. With gamma
noise the chain stays Markov in closed form, since gammas of one scale add up:

    x_n = sqrt(1 - beta_n) x_{n-1} + (g_n - E g_n),  g_n ~ Gamma(k_n, scale theta_n),
    theta_n = alpha_n theta_0,  k_n = beta_n / (alpha_n^2 theta_0^2),  k_1 + .. + k_n = sigma_n^2 / (alpha_n theta_0)^2.

Source: Nachmani et al. 2021 (2106.07582); Nachmani et al. 2021 (2110.05948), whose k_n reads alpha_n for alpha_bar_n by
a misprint: only this one has the variance beta_n.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Law, _rows
from sfumato.noise import Noise
from sfumato.processes.base import Coefficient, Time, expand, lib, ordered
from sfumato.processes.gaussian import Gaussian
from sfumato.processes.table import Table


class Unit(ABC):
    """Noise of mean 0 and variance 1, independent elements."""

    @abstractmethod
    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        """Numbers with the shape, dtype and device of `like`."""

    @abstractmethod
    def log_density(self, e: Tensor) -> Tensor:
        """Log density of each number; -inf outside of the support."""


@dataclass(frozen=True)
class CentredGamma(Unit):
    """(G - k) / sqrt(k), G ~ Gamma(k, 1): of skewness 2 / sqrt(k), N(0, 1) as k grows; bounded below by -sqrt(k).

    In float64 inside: k reaches 1e10, where the difference has no digits left in float32.

    Args:
        concentration: k > 0, a float or a tensor of all axes.
    """

    concentration: Coefficient

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        k = self._k(like).expand(like.shape).contiguous()
        return ((noise.gamma(k) - k) / k.sqrt()).to(like.dtype)

    def log_density(self, e: Tensor) -> Tensor:
        k = self._k(e)
        g = k + k.sqrt() * e
        inside = (k - 1) * g.clamp(min=1e-300).log() - g - torch.lgamma(k) + 0.5 * k.log()
        return torch.where(g > 0, inside, -math.inf).to(e.dtype)

    def _k(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.concentration, dtype=torch.float64, device=like.device)


@dataclass(frozen=True)
class TwoNormals(Unit):
    """N(m_1, std^2) with probability p, else N(m_2, std^2): m_1 = sqrt((1 - std^2)(1 - p) / p), m_2 = -p m_1 / (1 - p).

    Args:
        std: of each, in (0, 1]; 1 is N(0, 1). A float or a tensor of all axes.
        p: of the first, in (0, 1).

    Source: Nachmani et al. 2021 (2106.07582) section 3.3.
    """

    std: Coefficient
    p: float = 0.5

    @property
    def means(self) -> tuple[Coefficient, Coefficient]:
        """(m_1, m_2)."""
        square = (1.0 - self.std**2) * (1.0 - self.p) / self.p
        first = lib(square).sqrt(square)
        return first, -self.p / (1.0 - self.p) * first

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        first, second = (expand(m, like) for m in self.means)
        mean = torch.where(noise.uniform(like) < self.p, first, second)
        return mean + expand(self.std, like) * noise.normal(like)

    def log_density(self, e: Tensor) -> Tensor:
        std = torch.as_tensor(self.std, dtype=e.dtype, device=e.device)
        logs = [
            -0.5 * ((e - expand(m, e)) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi) + math.log(p)
            for m, p in zip(self.means, (self.p, 1.0 - self.p), strict=True)
        ]
        return torch.logaddexp(*logs)


@dataclass(frozen=True)
class TwoGammas(Unit):
    """+Gamma(k_1, scale) with probability p, else -Gamma(k_2, scale), k_2 = p k_1 / (1 - p): of mean 0.

    a k_1^2 + b k_1 = 1 makes the variance 1, a = scale^2 p / (1 - p), b = 2 p scale^2. The public code takes the root
    with +b, too large: its variance is above 1.

    Args:
        scale: of both, a float or a tensor of all axes.
        p: of the positive one, in (0, 1).

    Source: Nachmani et al. 2021 (2110.05948), public code.
    """

    scale: Coefficient
    p: float = 0.5

    @property
    def concentrations(self) -> tuple[Coefficient, Coefficient]:
        """(k_1, k_2)."""
        a, b = self.scale**2 * self.p / (1.0 - self.p), 2.0 * self.p * self.scale**2
        first = (lib(a).sqrt(b**2 + 4.0 * a) - b) / (2.0 * a)
        return first, self.p / (1.0 - self.p) * first

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        up = noise.uniform(like) < self.p
        first, second = (torch.as_tensor(k, dtype=torch.float64, device=like.device) for k in self.concentrations)
        size = self.scale * noise.gamma(torch.where(up, first, second))
        return torch.where(up, size, -size).to(like.dtype)

    def log_density(self, e: Tensor) -> Tensor:
        first, second, scale = (torch.as_tensor(v, dtype=torch.float64) for v in (*self.concentrations, self.scale))
        k = torch.where(e > 0, first, second)
        share = torch.where(e > 0, math.log(self.p), math.log(1.0 - self.p))
        g = e.abs() / scale
        return ((k - 1) * g.log() - g - torch.lgamma(k) - scale.log() + share).to(e.dtype)


@dataclass(frozen=True)
class Noised(Law):
    """centre + std e, e of a `Unit` law. The std 0.0, a float, is a point and draws nothing."""

    centre: Tensor
    std: Coefficient
    unit: Unit

    @property
    def mean(self) -> Tensor:
        return self.centre

    def sample(self, noise: Noise) -> Tensor:
        if isinstance(self.std, float) and self.std == 0.0:
            return self.mean
        return self.mean + self.std * self.unit.draw(self.mean, noise)

    def log_prob(self, x: Tensor) -> Tensor:
        std = torch.as_tensor(self.std, dtype=x.dtype, device=x.device)
        return _rows(self.unit.log_density((x - self.mean) / std) - std.log(), x)

    def kl(self, other: Law) -> Tensor:
        """Not known: there is no closed form for mixtures, and the supports of two shifted gammas differ."""
        raise TypeError("the KL of noise that is not normal has no closed form: compare log_prob on draws.")


class Additive(Gaussian):
    """A process with the alpha and sigma of `base` and other noise. `prior`, `marginal` and `reverse` draw it.

    The reverse law has the mean and variance of the Gaussian step and the noise of level s, as the papers sample: at
    eta = 0 it is DDIM. `score` and `velocity` are those of the Gaussian process, which these marginals only resemble.
    """

    base: Table

    @abstractmethod
    def unit(self, t: Time, like: Tensor) -> Unit:
        """The law of e_t, its numbers ready to multiply `like`."""

    def alpha(self, t: Time) -> Coefficient:
        return self.base.alpha(t)

    def sigma(self, t: Time) -> Coefficient:
        return self.base.sigma(t)

    def log_snr(self, t: Time) -> Coefficient:
        return self.base.log_snr(t)

    def time_of(self, log_snr: Time) -> Coefficient:
        return self.base.time_of(log_snr)

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        return self.base.rates(t)

    def marginal(self, x0: Tensor, t: Time) -> Noised:  # type: ignore[override]
        law = self.base.marginal(x0, t)
        return Noised(law.mean, law.std, self.unit(t, x0))

    def forward(self, xt: Tensor, t: Time, s: Time) -> Law:  # type: ignore[override]
        """The marginal, from t = 0; between two noisy levels these marginals are of no known chain.

        Raises:
            ValueError: for t > 0.
        """
        if not (isinstance(t, float) and t == 0.0):
            raise ValueError(f"{type(self).__name__} has no chain between noisy levels, got t = {t}: start at t = 0.")
        return self.marginal(xt, s)

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Law:  # type: ignore[override]
        law = self.base.reverse(estimate, xt, t, s, eta)
        return Noised(law.mean, law.std, self.unit(s, xt))

    def prior(self, like: Tensor) -> Noised:  # type: ignore[override]
        """e_1, of variance 1, as the papers start; what is left of the data at t = 1 is neglected."""
        return Noised(torch.zeros_like(like), 1.0, self.unit(1.0, like))


@dataclass(frozen=True)
class GammaNoise(Additive):
    """Gamma noise, the one-shot sum of the chain: e_t is CentredGamma(kb(t)), kb = sigma^2 / (alpha theta_0)^2.

    Args:
        base: the table of levels.
        theta_0: scale of the first step; as it goes to 0 the noise becomes normal. Skewness at t is 2 / sqrt(kb).
        exact: reverse steps at eta = 1 draw from the chain's own bridge given D (ours), not with the gamma noise of
            level s about the same mean and with the same average variance.

    Source: Nachmani et al. 2021 (2110.05948) eq. 8 to 13.
    """

    base: Table = field(default_factory=Table.linear)
    theta_0: float = 0.001
    exact: bool = False

    def __post_init__(self) -> None:
        if self.theta_0 <= 0.0 or self.base.alpha(1.0) == 0.0:
            raise ValueError(
                f"gamma noise needs theta_0 > 0 and a table that keeps some signal, got theta_0 = {self.theta_0} and "
                f"alpha(1) = {self.base.alpha(1.0)}: its concentration there would not be finite."
            )

    def concentration(self, t: Time) -> Coefficient:
        """kb(t) = sigma^2 / (alpha theta_0)^2, the sum of k_n up to t; 0 at t = 0."""
        return lib(t).exp(-self.log_snr(t)) / self.theta_0**2

    def unit(self, t: Time, like: Tensor) -> CentredGamma:
        return self._unit(self.concentration(t), like)

    def forward(self, xt: Tensor, t: Time, s: Time) -> Noised:  # type: ignore[override]
        """r x_t + Gamma(kb_s - kb_t, theta_s), centred, r = alpha_s / alpha_t."""
        law = self.base.forward(xt, t, s)
        return Noised(law.mean, law.std, self._unit(self.concentration(s) - self.concentration(t), xt))

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Law:  # type: ignore[override]
        if self.exact and eta == 1.0 and isinstance(s, float) and isinstance(t, float) and 0.0 < s < t:
            return self.bridge(estimate.mean, xt, t, s)
        return super().reverse(estimate, xt, t, s, eta)

    def bridge(self, x0: Tensor, xt: Tensor, t: float, s: float) -> GammaBridge:
        """q(x_s | x_t, x_0), 0 < s < t: the share of x_t's noise that was there at s is Beta(kb_s, kb_t - kb_s).

        Two gammas of one scale, given their sum, are a beta share of it. The mean is that of the Gaussian bridge, and
        the variance, averaged over x_t, is its variance. A total below 0, which x_0 rules out, counts as 0.
        """
        ordered(t, s, "a bridge goes towards data")
        r, k_s, k_t = self.alpha(t) / self.alpha(s), self.concentration(s), self.concentration(t)
        total = (xt.double() - self.alpha(t) * x0.double() + k_t * self.alpha(t) * self.theta_0).clamp(min=0.0)
        low = self.alpha(s) * x0.double() - k_s * self.alpha(s) * self.theta_0
        return GammaBridge(low, total / r, k_s, k_t - k_s, xt.dtype)

    def _unit(self, k: Coefficient, like: Tensor) -> CentredGamma:
        if not isinstance(k, Tensor):
            return CentredGamma(k)
        # Where nothing is added, k = 0, the standard deviation is 0 too.
        return CentredGamma(expand(k.clamp(min=1e-30), like.double()))


@dataclass(frozen=True)
class GammaBridge(Law):
    """low + width B, B ~ Beta(a, b), elementwise; float64 inside, drawn in `dtype`."""

    low: Tensor
    width: Tensor
    a: float
    b: float
    dtype: torch.dtype

    @property
    def mean(self) -> Tensor:
        return (self.low + self.width * (self.a / (self.a + self.b))).to(self.dtype)

    def sample(self, noise: Noise) -> Tensor:
        first, rest = (noise.gamma(torch.full_like(self.low, k)) for k in (self.a, self.b))
        return (self.low + self.width * (first / (first + rest))).to(self.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        share = (x.double() - self.low) / self.width
        a, b = (torch.tensor(k, dtype=torch.float64) for k in (self.a, self.b))
        norm = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
        return _rows((a - 1) * share.log() + (b - 1) * torch.log1p(-share) + norm - self.width.log(), self.low)

    def kl(self, other: Law) -> Tensor:
        """0 for itself; infinite between bridges to different x_0, whose supports differ."""
        if not isinstance(other, GammaBridge):
            raise TypeError(f"the KL of a GammaBridge is known to a GammaBridge only, got {type(other).__name__}.")
        same = (self.low == other.low) & (self.width == other.width) & (self.a == other.a) & (self.b == other.b)
        return _rows(torch.where(same, 0.0, math.inf), self.low)


@dataclass(frozen=True)
class MixtureNoise(Additive):
    """Noise of two normals at every level, their std linear over the steps: one-shot draws, no chain.

    Args:
        base: the table of levels.
        first, last: std of each normal at n = 1 and n = N (ours: the papers' values were not found).
        p: of the first normal.

    Source: Nachmani et al. 2021 (2106.07582) section 3.3; the public code draws e at each level in this way.
    """

    base: Table = field(default_factory=Table.linear)
    first: float = 0.7
    last: float = 1.0
    p: float = 0.5

    def __post_init__(self) -> None:
        if not (min(self.first, self.last) > 0.0 and max(self.first, self.last) <= 1.0 and 0.0 < self.p < 1.0):
            raise ValueError(
                f"two normals of variance 1 in all need std in (0, 1] and p in (0, 1), got {self.first}, {self.last} "
                f"and p = {self.p}."
            )

    def unit(self, t: Time, like: Tensor) -> TwoNormals:
        N = self.base.steps
        std = self.first + (self.last - self.first) * (t * N - 1.0) / (N - 1.0)
        std = std.clamp(min=1e-3, max=1.0) if isinstance(std, Tensor) else min(max(std, 1e-3), 1.0)
        return TwoNormals(expand(std, like), self.p)


@dataclass(frozen=True)
class TwoGammaNoise(Additive):
    """Positive or negative gammas at every level, their scale linear in alpha_bar: one-shot draws, no chain.

    Args:
        base: the table of levels.
        first, last: scale at n = 1 and n = N (ours: the papers' values were not found).
        p: of the positive gamma.

    Source: Nachmani et al. 2021 (2110.05948), public code.
    """

    base: Table = field(default_factory=Table.linear)
    first: float = 0.5
    last: float = 0.1
    p: float = 0.5

    def __post_init__(self) -> None:
        if min(self.first, self.last) <= 0.0 or not 0.0 < self.p < 1.0:
            raise ValueError(
                f"two gammas need scales > 0 and p in (0, 1), got {self.first}, {self.last}, p = {self.p}."
            )

    def unit(self, t: Time, like: Tensor) -> TwoGammas:
        bars = self.base.alpha_bars
        slope = (self.last - self.first) / (bars[-1] - bars[0])
        return TwoGammas(expand(self.first + slope * (self.alpha(t) ** 2 - bars[0]), like), self.p)
