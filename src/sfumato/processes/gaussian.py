"""Gaussian processes: x_t = alpha(t) x_0 + shift(t) + sigma(t) eps, eps ~ N(0, I).

For s <= t, with eps_hat = (x_t - alpha_t D - shift_t) / sigma_t and D the estimate of x_0, every first-order step of
the library is a draw from

    x_s | x_t  ~  N( alpha_s D + shift_s + sigma_s sqrt(1 - tau) eps_hat,  sigma_s^2 tau + c^2 Var[x_0 | x_t] ),
    tau = eta^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2),

which is DDIM at eta = 0 and the Gaussian bridge q(x_s | x_t, x_0), so ancestral sampling, at eta = 1 (Song et al. 2021,
2010.02502, eq. 12 and 16). Collected by what it multiplies, the mean is k_x (x_t - shift_t) + shift_s + k_D D with
k_x = sigma_s sqrt(1 - tau) / sigma_t and k_D = alpha_s - alpha_t k_x: `weights` is the one place of that arithmetic. It
holds ratios sigma_s / sigma_t only, never 1 / alpha, so alpha(1) = 0 and sigma(0) = 0 are ordinary inputs.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Normal
from sfumato.processes.base import Coefficient, Process, Time, exact, expand, ordered


class Gaussian(Process):
    """A process with a Gaussian marginal. A subclass gives `alpha`, `sigma` and, if it can, closed forms for the rest.

    Attributes:
        scale: elementwise factor inside sigma: 1.0, or a tensor with all axes of x, (1 or B, *event).
    """

    scale: float | Tensor = 1.0

    @abstractmethod
    def alpha(self, t: Time) -> Coefficient:
        """Factor of x_0 at time t; a float for a float."""

    @abstractmethod
    def sigma(self, t: Time) -> Coefficient:
        """Standard deviation of the noise at time t; a float for a float."""

    def shift(self, t: Time, like: Tensor) -> float | Tensor:
        """What is added to alpha x_0 at time t; 0.0, or a tensor broadcastable to `like`."""
        return 0.0

    # Laws

    def marginal(self, x0: Tensor, t: Time) -> Normal:
        """N(alpha x_0 + shift, sigma^2)."""
        t = exact(t)
        mean = x0 * expand(self.alpha(t), x0)
        shift = self.shift(t, x0)
        return Normal(mean if _is_zero(shift) else mean + shift, expand(self.sigma(t), x0))

    def forward(self, xt: Tensor, t: Time, s: Time) -> Normal:
        """N(r (x_t - shift_t) + shift_s, sigma_s^2 - r^2 sigma_t^2), r = alpha_s / alpha_t, for s >= t.

        Raises:
            ValueError: if s < t anywhere.
        """
        ordered(s, t, "forward goes towards noise")
        if isinstance(t, float) and isinstance(s, float):
            if s == t:
                return Normal(xt, 0.0)
            r = self.alpha(s) / self.alpha(t)
            std: Time = math.sqrt(max(self._level(s) ** 2 - r**2 * self._level(t) ** 2, 0.0))
        else:
            t, s = _tensors(t, s)
            same = s == t
            r = torch.where(same, 1.0, self.alpha(s) / torch.where(same, 1.0, self.alpha(t)))
            std = (self._level(s) ** 2 - r**2 * self._level(t) ** 2).clamp(min=0).sqrt()
        return Normal(self._moved(xt, t, s, r), self._scaled(std, xt))

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Normal:
        """Law of x_s given x_t, for s <= t, under the estimate of x_0: the formula at the head of this file.

        Args:
            estimate: mean (B, *event) and, if known, variance, of x_0 given x_t; model space.
            xt: noisy state, (B, *event).
            t, s: times in [0, 1], broadcastable to xt.
            eta: 0 deterministic, 1 ancestral. Values above 1 are allowed while tau stays <= 1.

        Returns:
            A Normal; mean (B, *event), std a float or broadcastable. Where s = t it is x_t itself (at sigma_t = 0 too).

        Raises:
            ValueError: if s > t anywhere, or if eta makes tau exceed 1.

        Source: Song et al. 2021 (2010.02502) eq. 12 and 16; Bao et al. 2022 (2201.06503) theorem 1 for the variance.
        """
        k_x, k_D, std, c = self.weights(t, s, eta)
        mean = _combined(k_x, xt, k_D, estimate.mean)
        shift = self.shift(s, xt)
        if not _is_zero(shift):
            mean = mean + (shift - expand(k_x, xt) * self.shift(t, xt))
        std = self._scaled(std, xt)
        if estimate.var is None:
            return Normal(mean, std)
        return Normal(mean, (std**2 + expand(c, xt) ** 2 * estimate.var).sqrt())

    def prior(self, like: Tensor) -> Normal:
        """N(shift(1), sigma(1)^2): what is left of the data at t = 1 is neglected."""
        shift = self.shift(1.0, like)
        mean = torch.zeros_like(like)
        return Normal(mean if _is_zero(shift) else mean + shift, expand(self.sigma(1.0), like))

    def weights(self, t: Time, s: Time, eta: float = 1.0) -> tuple[Coefficient, Coefficient, Coefficient, Coefficient]:
        """(k_x, k_D, std, c) of the step t -> s: x_s = k_x x_t + k_D D (+ shift) + std noise, c = d mean / d D.

        Floats for float times; an elementwise `scale` still multiplies std. Where s = t the step is the identity,
        (1, 0, 0, 0).

        Raises:
            ValueError: if s > t anywhere, or if eta makes tau exceed 1.
        """
        if isinstance(t, float) and isinstance(s, float):
            if s >= t:
                ordered(t, s, "reverse goes towards data")
                return 1.0, 0.0, 0.0, 0.0
            level_s, alpha_t, alpha_s = self._level(s), self.alpha(t), self.alpha(s)
            ratio = level_s / self._level(t)
            tau = eta * eta * (1.0 - (alpha_t * ratio / alpha_s) ** 2) if eta else 0.0
            if tau > 1.0:
                raise ValueError(f"eta = {eta} is too large for the step {t} -> {s}: tau = {tau:.4g} exceeds 1.")
            k_x = ratio * math.sqrt(1.0 - tau)
            k_D = alpha_s - alpha_t * k_x
            return k_x, k_D, level_s * math.sqrt(tau), k_D
        ordered(t, s, "reverse goes towards data")
        t, s = _tensors(t, s)
        same = s == t
        level_s, alpha_t, alpha_s = self._level(s), self.alpha(t), self.alpha(s)
        ratio = level_s / torch.where(same, 1.0, self._level(t))
        tau = eta**2 * (1.0 - (alpha_t * ratio / torch.where(same, 1.0, alpha_s)) ** 2)
        tau = torch.where(same, 0.0, tau)
        if eta > 1.0 and bool((tau > 1).any()):
            raise ValueError(f"eta = {eta} is too large for these steps: tau = {float(tau.max()):.4g} exceeds 1.")
        k_x = torch.where(same, 1.0, ratio * (1.0 - tau).clamp(min=0).sqrt())
        k_D = torch.where(same, 0.0, alpha_s - alpha_t * k_x)
        return k_x, k_D, level_s * tau.clamp(min=0).sqrt(), k_D

    # Views of a clean estimate

    def perturb(self, x0: Tensor, t: Time, eps: Tensor) -> Tensor:
        """x_t = alpha x_0 + shift + sigma eps."""
        law = self.marginal(x0, t)
        return law.mean + law.std * eps

    def eps(self, xt: Tensor, x0: Tensor, t: Time) -> Tensor:
        """The noise (x_t - alpha x_0 - shift) / sigma that leads from x_0 to x_t."""
        return (xt - self.marginal(x0, t).mean) / expand(self.sigma(exact(t)), xt)

    def score(self, xt: Tensor, x0: Tensor, t: Time) -> Tensor:
        """grad log p_t(x_t) = (alpha D + shift - x_t) / sigma^2 (Tweedie), with x0 the estimate D."""
        return (self.marginal(x0, t).mean - xt) / expand(self.sigma(exact(t)), xt) ** 2

    def velocity(self, xt: Tensor, x0: Tensor, t: Time) -> Tensor:
        """dx/dt of the probability-flow ODE, alpha' D + shift' + sigma' eps, with x0 the estimate D.

        Source: Song et al. 2021 (2011.13456) eq. 13; Lipman et al. 2023 (2210.02747) eq. 15.
        """
        t = exact(t)
        d_alpha, d_level = self.rates(t)
        # sigma' eps = (sigma' / sigma) (x_t - alpha D - shift): the elementwise scale cancels.
        rate = d_level / self._level(t)
        v = _combined(rate, xt, d_alpha - rate * self.alpha(t), x0)
        shift = self.shift(t, xt)
        return v if _is_zero(shift) else v + (self.shift_rate(t, xt) - expand(rate, xt) * shift)

    # The process in continuous time

    def log_snr(self, t: Time) -> Coefficient:
        """lambda(t) = log(alpha^2 / level^2), falling in t; +-inf at an end without noise or without signal."""
        if isinstance(t, float):
            alpha, level = self.alpha(t), self._level(t)
            if level <= 0.0:
                return math.inf
            return 2.0 * (math.log(alpha) - math.log(level)) if alpha > 0.0 else -math.inf
        return 2.0 * (torch.log(self.alpha(t)) - torch.log(self._level(t)))

    def time_of(self, log_snr: Time) -> Coefficient:
        """The time in [0, 1] at which log_snr(t) has the given value; the nearer end where no time has.

        Bisection to rounding, unless a closed form overrides it.
        """
        if isinstance(log_snr, Tensor):
            low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
            for _ in range(64):
                mid = 0.5 * (low + high)
                clean = self.log_snr(mid) > log_snr
                low, high = torch.where(clean, mid, low), torch.where(clean, high, mid)
            return 0.5 * (low + high)
        if self.log_snr(0.0) <= log_snr:
            return 0.0
        a, b = 0.0, 1.0
        while (middle := 0.5 * (a + b)) not in (a, b):
            a, b = (middle, b) if self.log_snr(middle) > log_snr else (a, middle)
        return b

    def rates(self, t: Time) -> tuple[Coefficient, Coefficient]:
        """(d alpha / dt, d level / dt), level = sigma without its elementwise scale; by autograd unless overridden."""
        with torch.enable_grad():
            clock = torch.as_tensor(t, dtype=torch.float64).detach().requires_grad_()
            d_alpha, d_level = (
                torch.autograd.grad(f.sum(), clock)[0] if f.requires_grad else torch.zeros_like(clock)
                for f in (torch.as_tensor(self.alpha(clock)), torch.as_tensor(self._level(clock)))
            )
        return (d_alpha, d_level) if isinstance(t, Tensor) else (float(d_alpha), float(d_level))

    def shift_rate(self, t: Time, like: Tensor) -> float | Tensor:
        """d shift / dt; 0.0 without a shift."""
        return 0.0

    def sde(self, t: Time) -> tuple[Coefficient, Coefficient]:
        """(f, g) of dx = f x dt + g dw with these marginals: f = alpha'/alpha, g^2 = 2 sigma sigma' - 2 f sigma^2.

        g is scalar: an elementwise scale multiplies it. Source: Kingma et al. 2021 (2107.00630) appendix B.
        """
        d_alpha, d_level = self.rates(t)
        level = self._level(t)
        f = d_alpha / self.alpha(t)
        g2 = 2.0 * level * d_level - 2.0 * f * level**2
        return f, (g2.clamp(min=0).sqrt() if isinstance(g2, Tensor) else math.sqrt(max(g2, 0.0)))

    # Internals

    def _level(self, t: Time) -> Coefficient:
        """sigma without its elementwise scale: what ratios and the clock are made of."""
        return self.sigma(t)

    def _scaled(self, std: Time, like: Tensor) -> Coefficient:
        """A level, ready to multiply noise shaped as `like`, with the elementwise scale put back."""
        std = expand(std, like)
        return std if isinstance(self.scale, float) and self.scale == 1.0 else std * self.scale

    def _moved(self, xt: Tensor, t: Time, s: Time, r: Time) -> Tensor:
        shift = self.shift(s, xt)
        moved = xt * expand(r, xt)
        return moved if _is_zero(shift) else moved + (shift - expand(r, xt) * self.shift(t, xt))


def _combined(k_x: Coefficient, x: Tensor, k_D: Coefficient, D: Tensor) -> Tensor:
    """k_x x + k_D D, in two operations."""
    if isinstance(k_x, float) and isinstance(k_D, float):
        return torch.add(x * k_x, D, alpha=k_D)
    return torch.addcmul(x * expand(k_x, x), expand(k_D, x), D)


def _is_zero(shift: float | Tensor) -> bool:
    return isinstance(shift, float) and shift == 0.0


def _tensors(t: Time, s: Time) -> tuple[Tensor, Tensor]:
    device = next(v.device for v in (t, s) if isinstance(v, Tensor))
    t, s = (torch.as_tensor(v, dtype=torch.float64, device=device) for v in (t, s))
    return torch.broadcast_tensors(t, s)  # type: ignore[return-value]
