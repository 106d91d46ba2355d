"""FPS-SMC: posterior sampling for linear inverse problems, a filtering perspective (Dou & Song 2024, ICLR)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import indexed, share
from sfumato.solvers.conditional import misfit, sample_gaussian
from sfumato.solvers.particles import Folded, Particles, effective, multinomial, pick, systematic
from sfumato.solvers.ratio import fixed_ratio, weights


class Path(NamedTuple):
    """The measurement of this level, (B, *measured), None before the first step; log weights (B, K)."""

    y: Tensor | None
    log_weight: Tensor


@dataclass(frozen=True)
class FPSSMC(Particles):
    """A filter along the reverse chain: x_t is the hidden state, y_t, which diffuses as A x_t does, its observation.

    y_s = alpha_s y + k_x (y_t - alpha_t y) + std A z, from alpha_1 y + sigma_1 A z; x_s | x_t ~ N(mu, std^2 I), the
    fixed-ratio step with eta^2 = c. Each set is resampled by N(y_s; A mu, std^2 A A^T + alpha_s^2 sigma_y^2 I), then
    x_s drawn given y_s; the step to t = 0 is the plain mean. With one particle it is FPS. No gradients.

    Exact for sigma_y = 0 only (with `ancestral`, as steps and particles grow). With noise y is counted once a level, as
    if errors of different levels were independent: the spread along A goes to 0 with more steps, however many
    particles. `telescoping` mends that (ours): each weight is divided by what the level before has counted, so that
    only N(y; A x_0, sigma_y^2 I) remains in the end, whatever stands for y_s on the way; there it is alpha_s y, as if
    seen with the noise of the state too, N(alpha_s y; A x_s, alpha_s^2 sigma_y^2 I + sigma_s^2 A A^T). (The path y_s
    with its own little noise would do in theory, and asks the particles to follow one path of noise: on the four
    numbers of `docs/solvers.md` 200 of them then err by 0.6 to 1.2 posterior standard deviations.) Weights are kept
    until half of the particles are lost; the last kernel has std `last`.

    Args:
        steps: network evaluations for each particle; the table's own steps, or uniform in t.
        particles: K, for each row of y.
        c: share of fresh noise in the variance.
        ancestral: the DDIM step with eta^2 = c in place of the fixed-ratio step (ours).
        telescoping, last: see above.

    Source: Dou & Song 2024 (openreview tplXNcHZs1) algorithms 1 and 2; defaults of its public code.
    """

    steps: int = 1000
    particles: int = 5
    c: float = 0.95
    ancestral: bool = False
    telescoping: bool = False
    last: float = 0.01
    needs = Linear

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "c")
        if not self.last > 0.0:
            raise ValueError(f"FPSSMC: last is the std of the last kernel and must be above 0, got {self.last}.")

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Path:
        return Path(None, xt.new_zeros(xt.shape[:2]))

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, operator, K, eta = denoiser.process, m.operator, self.particles, math.sqrt(self.c)
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        x, like = xt.flatten(0, 1), torch.zeros_like(xt[:, 0])
        D = denoiser(x, t).mean
        if self.ancestral:
            law, (k_x, _, std, _) = process.reverse(Estimate(D), x, t, s, eta), process.weights(t, s, eta)
        else:
            law, (k_x, _, std) = fixed_ratio(process, D, x, t, s, eta), weights(process, t, s, eta)

        def centre(t: Time) -> Tensor:
            return process.alpha(t) * m.y + operator(process.marginal(like, t).mean)

        if self.telescoping:
            seen = {r: self.many(replace(m, y=centre(r), sigma=process.alpha(r) * m.sigma)) for r in (t, s)}
            return self._telescoped(
                seen[t], seen[s], x, law.mean, std, process.sigma(t), process.sigma(s), memory, noise
            )
        y = memory.y
        if y is None:
            y = centre(t) + process.sigma(t) * operator(noise.normal(like))
        y_s = centre(s) + k_x * (y - centre(t))
        if std == 0.0:
            return law.mean.unflatten(0, (-1, K)), Path(y_s, memory.log_weight)
        y_s = y_s + std * operator(noise.normal(like))
        many = self.many(replace(m, y=y_s, sigma=process.alpha(s) * m.sigma))
        index = multinomial(-0.5 * misfit(many, law.mean, std).unflatten(0, (-1, K)), noise)
        mean = pick(law.mean.unflatten(0, (-1, K)), index).flatten(0, 1)
        xs = sample_gaussian(many, mean, std, Folded(noise, K))
        return xs.unflatten(0, (-1, K)), Path(y_s, memory.log_weight)

    def _telescoped(
        self,
        before: Measurement,
        seen: Measurement,
        x: Tensor,
        mean: Tensor,
        std: float,
        level: float,
        next_level: float,
        memory: Path,
        noise: Noise,
    ) -> tuple[Tensor, Path]:
        """The step of `telescoping`: y at the level of x and at the next one, the kernel N(mean, std^2 I) to it."""
        K, fresh = self.particles, Folded(noise, self.particles)
        std = std if next_level > 0.0 else max(std, self.last)
        wide = math.hypot(std, next_level)
        gain = -0.5 * misfit(seen, mean, wide)
        if memory.y is not None:
            gain = gain + 0.5 * misfit(before, x, level)
        log_weight = memory.log_weight + gain.unflatten(0, (-1, K))
        lost = (effective(log_weight) < 0.5 * K)[:, None]
        index = torch.where(lost, systematic(log_weight, noise), torch.arange(K, device=x.device))
        mean = pick(mean.unflatten(0, (-1, K)), index).flatten(0, 1)
        # a draw of both noises together, of the kernel and of the level, and then of the kernel's part of it
        both = sample_gaussian(seen, mean, wide, fresh) - mean
        xs = mean + (std / wide) ** 2 * both
        if next_level > 0.0:
            xs = torch.add(xs, fresh.normal(xs), alpha=std * next_level / wide)
        return xs.unflatten(0, (-1, K)), Path(seen.y, torch.where(lost, 0.0, log_weight))


Recipe = FPSSMC
