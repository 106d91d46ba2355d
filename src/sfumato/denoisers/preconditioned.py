"""A network as a denoiser: every parameterisation is four numbers.

    D(x_t) = c_skip u + c_out F(c_in u, c_noise),   u = x_t - shift.

The training target is (x_0 - c_skip u) / c_out, so a loss on eps, x_0, v or velocity is a weight on one residual. A
scheme is a function from (alpha, sigma) to the four numbers, floats for floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Coefficient, Gaussian, Time, exact, expand, lib


class Scheme(NamedTuple):
    """The four numbers of a parameterisation at one noise level."""

    c_in: Coefficient
    c_skip: Coefficient
    c_out: Coefficient
    c_noise: Coefficient


Parameterization = Callable[[Coefficient, Coefficient], Scheme]


def log_snr(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
    """2 log(alpha / sigma), held to [-40, 40] so that a network can be asked at the ends."""
    if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
        a, s = (torch.as_tensor(v, dtype=torch.float64) for v in (alpha, sigma))
        return (2.0 * (a.log() - s.log())).clamp(-40.0, 40.0)
    if sigma <= 0.0 or alpha <= 0.0:
        return 40.0 if sigma <= 0.0 else -40.0
    return min(max(2.0 * (math.log(alpha) - math.log(sigma)), -40.0), 40.0)


def predict_eps(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = eps, so x_0 = (u - sigma F) / alpha; needs alpha > 0. Source: Ho et al. 2020 (2006.11239) eq. 11."""
    n = _norm(alpha, sigma)
    return Scheme(1.0 / n, 1.0 / alpha, -sigma / alpha, log_snr(alpha, sigma))


def predict_x0(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = x_0."""
    return Scheme(1.0 / _norm(alpha, sigma), 0.0 * sigma, 1.0 + 0.0 * sigma, log_snr(alpha, sigma))


def predict_v(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = v = (alpha eps - sigma x_0) / n, n^2 = alpha^2 + sigma^2; n = 1 for VP.

    Source: Salimans & Ho 2022 (2202.00512) appendix D.
    """
    n = _norm(alpha, sigma)
    return Scheme(1.0 / n, alpha / n**2, -sigma / n, log_snr(alpha, sigma))


def predict_flow(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = eps - x_0, so x_0 = (u - sigma F) / (alpha + sigma); the clock is sigma / (alpha + sigma), t for Rectified.

    Source: Lipman et al. 2023 (2210.02747) eq. 23; Liu et al. 2023 (2209.03003) eq. 1.
    """
    total = alpha + sigma
    return Scheme(1.0 / _norm(alpha, sigma), 1.0 / total, -sigma / total, sigma / total)


def predict_score(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = sigma score = -eps of the bare x_t, so x_0 = (u + sigma F) / alpha; needs alpha > 0.

    The input is not scaled: a score network divided by its level, s = F / sigma. Source: Song & Ermon 2020 (2006.09011)
    technique 3.
    """
    return Scheme(1.0 + 0.0 * sigma, 1.0 / alpha, sigma / alpha, log_snr(alpha, sigma))


def edm(sigma_data: float = 0.5) -> Parameterization:
    """Karras' preconditioning for data of standard deviation `sigma_data`, for any alpha and sigma.

    Unit input and target variance: c_in = 1 / n, c_skip = alpha sd^2 / n^2, c_out = sigma sd / n with
    n^2 = sigma^2 + alpha^2 sd^2, c_noise = log(sigma / alpha) / 4. Source: Karras et al. 2022 (2206.00364) table 1,
    applied to x / alpha.
    """

    def scheme(alpha: Coefficient, sigma: Coefficient) -> Scheme:
        n = _norm(alpha * sigma_data, sigma)
        c_noise = -0.125 * log_snr(alpha, sigma)
        return Scheme(1.0 / n, alpha * sigma_data**2 / n**2, sigma * sigma_data / n, c_noise)

    return scheme


def trig(sigma_data: float = 0.5) -> Parameterization:
    """TrigFlow's: x_0 = cos(a) u - sin(a) sd F(u / sd, a) where alpha = cos(a), sigma = sd sin(a); the clock is a.

    It is EDM's with the sign of F turned, so that sd F = dx / da. Source: Lu & Song 2025 (2410.11081) eq. 4.
    """
    base = edm(sigma_data)

    def scheme(alpha: Coefficient, sigma: Coefficient) -> Scheme:
        c = base(alpha, sigma)
        tensors = isinstance(alpha, Tensor) or isinstance(sigma, Tensor)
        a, b = (torch.as_tensor(v) if tensors else v for v in (sigma, alpha * sigma_data))
        return Scheme(c.c_in, c.c_skip, -c.c_out, lib(a).atan2(a, b))

    return scheme


def consistency(sigma_data: float = 0.5, sigma_min: float = 0.002) -> Parameterization:
    """EDM's preconditioning with D = u / alpha at sigma / alpha = sigma_min, the end of a consistency function.

    With r = sigma / alpha: c_skip = sd^2 / ((r - sigma_min)^2 + sd^2), c_out = (r - sigma_min) sd / sqrt(r^2 + sd^2),
    of u / alpha. Needs alpha > 0. Source: Song et al. 2023 (2303.01469) appendix C.
    """
    base = edm(sigma_data)

    def scheme(alpha: Coefficient, sigma: Coefficient) -> Scheme:
        r, c = sigma / alpha, base(alpha, sigma)
        c_skip = sigma_data**2 / ((r - sigma_min) ** 2 + sigma_data**2) / alpha
        return Scheme(c.c_in, c_skip, (r - sigma_min) * sigma_data * c.c_in * alpha, c.c_noise)

    return scheme


class Preconditioned(Denoiser):
    """A network `net(u, c_noise, cond)` as a denoiser.

    Args:
        net: called with c_in u in its own dtype, c_noise of shape (B,) (or of the times' shape) and the condition;
            it returns a tensor like u. This is the one border where dtypes are cast.
        process: a Gaussian process; a condition given in a call is bound to it.
        scheme: one of `predict_eps`, `predict_x0`, `predict_v`, `predict_flow`, `edm(sigma_data)`.
        clock: replaces c_noise by clock(t), for networks that want an integer step or t itself.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Gaussian,
        scheme: Parameterization = predict_v,
        *,
        clock: Callable[[Time], Time] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.process, self.scheme, self.clock = net, process, scheme, clock

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process if cond is None else self.process.bind(cond)
        assert isinstance(process, Gaussian)
        t = exact(t)
        alpha = process.alpha(t)
        c = self.scheme(alpha, process._level(t))
        c_noise = self.clock(t) if self.clock else c.c_noise
        if not (isinstance(process.scale, float) and process.scale == 1.0):
            # Elementwise: the network is told the level, one number a row, and the rest follows sigma itself.
            c = self._elementwise(c, expand(alpha, xt), process.sigma(t))
        shift = process.shift(t, xt)
        u = xt if isinstance(shift, float) else xt - shift
        return self._estimate(u, c, self._run(u * expand(c.c_in, u), c_noise, cond))

    def _elementwise(self, c: Scheme, alpha: Coefficient, sigma: Tensor) -> Scheme:
        """The numbers where sigma has an elementwise scale, from those of the bare level."""
        return self.scheme(alpha, sigma)

    def _estimate(self, u: Tensor, c: Scheme, out: Tensor) -> Estimate:
        c_skip, c_out = expand(c.c_skip, u), expand(c.c_out, u)
        if isinstance(c_out, float):
            return Estimate(torch.add(u * c_skip, out, alpha=c_out))
        return Estimate(torch.addcmul(u * c_skip, c_out, out))

    def _run(self, u: Tensor, c_noise: Time, cond: Any) -> Tensor:
        dtype = self._dtype()
        if isinstance(c_noise, Tensor):
            level = c_noise.to(dtype=dtype or u.dtype, device=u.device)
        else:
            level = torch.full((1,), c_noise, dtype=dtype or u.dtype, device=u.device)
        if level.ndim < 2:
            level = level.expand(u.shape[0])
        out: Tensor = self.net(u if dtype is None else u.to(dtype), level, cond)
        return out.to(u.dtype)

    def _dtype(self) -> torch.dtype | None:
        return next((p.dtype for p in self.net.parameters() if p.is_floating_point()), None)


def _norm(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
    total = alpha**2 + sigma**2
    return lib(total).sqrt(total)
