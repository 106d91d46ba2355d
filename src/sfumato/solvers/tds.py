"""TDS: twisted diffusion sampler (Wu et al. 2023, 2306.17775)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Normal
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.operators.levels import count
from sfumato.processes import Gaussian, Time, expand
from sfumato.solvers.conditional import misfit
from sfumato.solvers.particles import Folded, Particles, effective, pick, systematic
from sfumato.solvers.pigdm import spread
from sfumato.solvers.tweedie import inside


class Weights(NamedTuple):
    """Log weight of each particle, (B, K), and the log of the evidence gathered so far, (B,).

    After the last step the second is the estimate of log p(y), whose exponential is unbiased.
    """

    log_weight: Tensor
    log_evidence: Tensor


@dataclass(frozen=True)
class TDS(Particles):
    """Guided ancestral steps for a set of particles, weighted so that the guide's errors cancel.

    twist(x_t) = log N(y; A D, r_t^2 A A^T + sigma_y^2 I), the likelihood of `PiGDMScore` (log p(y | A D) if A is not
    linear or the noise not Gaussian); propose x_s from q, the reverse law about D + sigma_t^2 / alpha_t grad twist, and
    weigh by

        p(x_s | x_t) exp(twist(x_s) - twist(x_t)) / q(x_s | x_t),   at the end with p(y | x_0) for the twist.

    Exact as K grows, for any prior; with one particle it is the guided sampler. The variance of the denoiser is used
    where it is known. Grids end at t = 0. States are (B, K, *event); memory holds `Weights`. One call and one backward
    pass per particle and step. A time is shared by the batch.

    Args:
        steps: of the grid, uniform in log SNR (ours).
        particles: K, for each row of y.
        threshold: resample (systematically) the sets whose effective number is below this share of K; above 1: always.
        last: standard deviation of the last kernel. At 0 the weights would be those of a point, and all particles one.

    Source: Wu et al. 2023 (2306.17775) algorithm 1; the twist with a variance is ours, and so is `last`.
    """

    steps: int = 100
    particles: int = 64
    threshold: float = 0.5
    last: float = 0.01
    climbs = True
    differentiates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.last > 0.0:
            raise ValueError(f"TDS: last is the std of the last kernel and must be above 0, got {self.last}.")

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Weights:
        if m.sigma == 0.0 and m.likelihood is None:
            raise ValueError("TDS weighs by p(y | x_0), which needs sigma_y > 0. Use FPSSMC for noiseless y.")
        zeros = xt.new_zeros(xt.shape[:2])
        return Weights(zeros, zeros[:, 0])

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, K, many = denoiser.process, self.particles, self.many(m)
        assert isinstance(process, Gaussian)
        t = inside(process, t)
        with torch.enable_grad():
            x = xt.detach().flatten(0, 1).requires_grad_()
            estimate = denoiser(x, t)
            twist = self.twist(many, estimate.mean, process, t)
            (g,) = torch.autograd.grad(twist.sum(), x)
        twist, D = twist.detach(), estimate.mean.detach()
        var = None if estimate.var is None else estimate.var.detach()
        log_weight, log_evidence = memory.log_weight + twist.unflatten(0, (-1, K)), memory.log_evidence
        index = systematic(log_weight, noise)
        low = effective(log_weight) < self.threshold * K
        if bool(low.any()):
            log_evidence = torch.where(low, log_evidence + _mean(log_weight), log_evidence)
            log_weight = torch.where(low[:, None], 0.0, log_weight)
            index = torch.where(low[:, None], index, torch.arange(K, device=index.device))
            parts = (x.detach(), D, g, twist) if var is None else (x.detach(), D, g, twist, var)
            x, D, g, twist, *rest = (pick(v.unflatten(0, (-1, K)), index).flatten(0, 1) for v in parts)
            var = rest[0] if rest else None
        x = x.detach()
        plain = process.reverse(Estimate(D, var), x, t, s)
        scale = expand(process.sigma(t) ** 2 / process.alpha(t), x)
        guided = process.reverse(Estimate(D + scale * g, var), x, t, s)
        std = plain.std
        if s == 0.0:
            std = max(std, self.last) if isinstance(std, float) else std.clamp(min=self.last)
        xs = Normal(guided.mean, std).sample(Folded(noise, K))
        gain = Normal(plain.mean, std).log_prob(xs) - Normal(guided.mean, std).log_prob(xs) - twist
        if s == 0.0:
            gain = gain - many.energy(xs)
            if m.likelihood is None:
                log_evidence = log_evidence - 0.5 * count(m) * math.log(2.0 * math.pi * m.sigma**2)
        log_weight = log_weight + gain.unflatten(0, (-1, K))
        if s == 0.0:
            log_evidence = log_evidence + _mean(log_weight)
        return xs.unflatten(0, (-1, K)), Weights(log_weight, log_evidence)

    def twist(self, m: Measurement, D: Tensor, process: Gaussian, t: Time) -> Tensor:
        """log of the likelihood of D but for a constant, (B K,)."""
        if isinstance(m.operator, Linear) and m.likelihood is None:
            return -0.5 * misfit(m, D, math.sqrt(spread(process, t)))
        return -m.energy(D)


def _mean(log_weight: Tensor) -> Tensor:
    """Log of the mean weight of each row, (B,)."""
    return log_weight.logsumexp(1) - math.log(log_weight.shape[1])
