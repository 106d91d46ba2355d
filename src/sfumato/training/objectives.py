"""Objectives: modules `(x0, cond, noise) -> (B,)`, one loss for each sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, OptimalCovariance, Parameterization
from sfumato.noise import Noise
from sfumato.processes import Coefficient, Gaussian, Process
from sfumato.training.times import LogNormal, TimeLaw, Uniform

Weight = Callable[[Coefficient, Coefficient], Coefficient]


class Denoising(nn.Module):
    """w(t) mean (x_0 - D(x_t, t, cond))^2, t from `times`, x_t from the process's marginal.

    A loss on eps, x_0, v or velocity is a weight on this one residual: see `weights`.

    Args:
        denoiser: the model; a condition is bound to its process as well.
        times: law of t, one draw for each sample.
        weight: w(alpha, sigma).
        drop: share of samples whose condition is replaced by `null(cond)`, per sample, for classifier-free guidance.
        null: what stands for no condition, (B, ...) to (B, ...).
        power: p of w^(p/2) mean |x_0 - D|^p: 1 for the absolute error.

    Source: Ho et al. 2020 (2006.11239) eq. 14; Karras et al. 2022 (2206.00364) eq. 2 and 8.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        times: TimeLaw | None = None,
        weight: Weight | None = None,
        *,
        drop: float = 0.0,
        null: Callable[[Any], Any] | None = None,
        power: float = 2.0,
    ) -> None:
        super().__init__()
        if drop > 0.0 and null is None:
            raise ValueError("condition dropout needs `null`: a function from a condition to what stands for none.")
        self.denoiser, self.times, self.weight = denoiser, times or LogNormal(), weight or edm_weight(0.5)
        self.drop, self.null, self.power = drop, null, power

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); one time and one x_t drawn for each."""
        cond = self.denoiser.prepare(cond)
        return self.residual(x0, cond, self.denoiser.process.bind(cond), noise)

    def residual(self, x0: Tensor, cond: Any, path: Process, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), with x_t drawn from the marginal of `path`."""
        process = self.denoiser.process.bind(cond)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        cond = self.dropped(x0, cond, noise)
        xt = path.marginal(x0, t).sample(noise)
        gap = (x0 - self.denoiser(xt, t, cond).mean).flatten(1)
        error = (gap.square() if self.power == 2.0 else gap.abs() ** self.power).mean(1)
        assert isinstance(process, Gaussian)
        return self.weighed(error, process, t)

    def weighed(self, error: Tensor, process: Gaussian, t: Tensor) -> Tensor:
        """The loss of each sample from its mean error at its time, (B,)."""
        weight = torch.as_tensor(self.weight(process.alpha(t), process.sigma(t))).to(error)
        return error * (weight if self.power == 2.0 else weight ** (0.5 * self.power))

    def dropped(self, x0: Tensor, cond: Any, noise: Noise) -> Any:
        """The condition of each row of x_0, replaced by `null` in a share `drop` of them."""
        if self.drop == 0.0 or cond is None:
            return cond
        assert self.null is not None
        lost = noise.uniform(torch.empty(x0.shape[0])) < self.drop
        return _select(lost.to(x0.device), self.null(cond), cond)


class NoiseMoment(nn.Module):
    """mean (target - net(x_t))^2 for the second network of an `OptimalCovariance`, its mean frozen.

    The target is eps^2 (SN) or (eps - eps_hat)^2 (NPR). Source: Bao et al. 2022 (2206.07309) eq. 13 and 19.

    Args:
        denoiser: what is trained: its `net` alone gets gradients.
        times: law of t; uniform if not given.
    """

    def __init__(self, denoiser: OptimalCovariance, times: TimeLaw | None = None) -> None:
        super().__init__()
        self.denoiser, self.times = denoiser, times or Uniform()

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), a mean over the event."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        eps = process.eps(xt, x0, t)
        if self.denoiser.residual:
            with torch.no_grad():
                eps = eps - process.eps(xt, self.denoiser.inner(xt, t, cond).mean, t)
        return (eps.square() - self.denoiser.moment(xt, t, cond)).flatten(1).square().mean(1)


# Weights, each a function of (alpha, sigma)


def x0_weight(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
    """1: the loss on x_0."""
    return 0.0 * sigma + 1.0


def eps_weight(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
    """alpha^2 / sigma^2: the loss on eps, DDPM's L_simple. Source: Ho et al. 2020 (2006.11239) eq. 14."""
    return (alpha / sigma) ** 2


def edm_weight(sigma_data: float = 0.5) -> Weight:
    """(sigma^2 + alpha^2 sd^2) / (sigma sd)^2: unit loss at every level. Source: Karras et al. 2022 eq. 8."""
    return lambda alpha, sigma: (sigma**2 + (alpha * sigma_data) ** 2) / (sigma * sigma_data) ** 2


def v_weight(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
    """SNR + 1: the loss on v, for VP. Source: Salimans & Ho 2022 (2202.00512) section 4."""
    return eps_weight(alpha, sigma) + 1.0


def truncated_snr(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
    """max(SNR, 1). Source: Salimans & Ho 2022 (2202.00512) section 4."""
    snr = eps_weight(alpha, sigma)
    return snr.clamp(min=1.0) if isinstance(snr, Tensor) else max(snr, 1.0)


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma). Source: Hang et al. 2023 (2303.09556) section 3.4."""

    def weight(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
        snr = eps_weight(alpha, sigma)
        return snr.clamp(max=gamma) if isinstance(snr, Tensor) else min(snr, gamma)

    return weight


def soft_min_snr(gamma: float = 5.0) -> Weight:
    """gamma SNR / (gamma + SNR): min-SNR without its corner. Source: Crowson et al. 2024 (2401.11605) section 4.3."""

    def weight(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
        snr = eps_weight(alpha, sigma)
        return gamma * snr / (gamma + snr)

    return weight


def p2_weight(gamma: float = 1.0, k: float = 1.0) -> Weight:
    """SNR / (k + SNR)^gamma: the loss on eps times 1 / (k + SNR)^gamma. Source: Choi et al. 2022 (2204.00227) eq. 7."""

    def weight(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
        snr = eps_weight(alpha, sigma)
        return snr / (k + snr) ** gamma

    return weight


def sigmoid_weight(bias: float = -1.0) -> Weight:
    """SNR sigmoid(bias - log SNR): the loss on eps times a sigmoid, to be averaged over log SNR uniformly.

    Its limits are the loss on eps where there is noise and e^bias times that on x_0 where there is little. Where times
    are drawn otherwise, divide by their density in log SNR. Source: Kingma & Gao 2023 (2303.00848) section 4; bias -1
    of Hoogeboom et al. 2024 (2410.19324).
    """

    def weight(alpha: Coefficient, sigma: Coefficient) -> Coefficient:
        snr = eps_weight(alpha, sigma)
        # snr / (1 + snr e^-bias), whose limit at infinite SNR is e^bias.
        return 1.0 / (1.0 / snr + math.exp(-bias))

    return weight


def output_weight(scheme: Parameterization) -> Weight:
    """1 / c_out^2: the loss on the network's own target, whatever the scheme (eps, v, velocity, EDM's F)."""
    return lambda alpha, sigma: scheme(alpha, sigma).c_out ** -2


def _select(where: Tensor, a: Any, b: Any) -> Any:
    """Rows of `a` where true, of `b` elsewhere, for a tensor or a dict of tensors."""
    if isinstance(b, Tensor):
        return torch.where(where.reshape(-1, *[1] * (b.ndim - 1)), a, b)
    return {key: _select(where, a[key], b[key]) for key in b}
