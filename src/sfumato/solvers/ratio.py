"""The fixed-ratio step, which DDRM, DDNM and DiffPIR share: the share of fresh noise does not shrink with the step.

    x_s = alpha_s D + shift_s + sigma_s (sqrt(1 - eta^2) eps_hat + eta z),
    eps_hat = (x_t - alpha_t D - shift_t) / sigma_t.

Unlike DDIM's it is no discretisation of a reverse SDE: with an exact denoiser, infinitely many steps and data N(0, 1)
the variance of its samples is (1 + sqrt(1 - eta^2)) / 2 (0.763 at eta = 0.85), whatever the schedule. It divides by
sigma_t only, so alpha(1) = 0 is an ordinary input.
"""

from __future__ import annotations

from torch import Tensor

from sfumato.laws import Normal
from sfumato.processes import Coefficient, Gaussian, Time, expand


def weights(process: Gaussian, t: Time, s: Time, eta: float) -> tuple[Coefficient, Coefficient, Coefficient]:
    """(k_x, k_D, std) of the step: x_s = k_x (x_t - shift_t) + k_D D + shift_s + std z; floats for float times."""
    level = process.sigma(s)
    k_x = (1.0 - eta**2) ** 0.5 * level / process.sigma(t)
    return k_x, process.alpha(s) - process.alpha(t) * k_x, eta * level


def fixed_ratio(process: Gaussian, x0: Tensor, xt: Tensor, t: Time, s: Time, eta: float) -> Normal:
    """Law of x_s given x_t and a clean estimate x0, (B, *event): the formula at the head of this file."""
    k_x, k_D, std = (expand(k, xt) for k in weights(process, t, s, eta))
    mean = k_x * xt + k_D * x0
    shift = process.shift(s, xt) - k_x * process.shift(t, xt)
    return Normal(mean + shift if isinstance(shift, Tensor) else mean, std)
