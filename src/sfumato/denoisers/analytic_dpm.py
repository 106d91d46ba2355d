"""Analytic-DPM: the optimal reverse variance, from the size of the predicted noise (Bao et al. 2022, 2201.06503)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers.base import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.laws import Normal
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Process, Time, expand
from sfumato.processes.variances import Reverse

EXAMPLE = """\
python -c 'import torch, sfumato as sf; P = sf.processes.LinearBeta()
W = sf.GaussianWorld(torch.ones(4), torch.eye(4) * 0.04)
times = sf.grids.log_snr(P, 20); A = sf.recipes.load("analytic-dpm").Recipe
D = A.estimate(W.denoiser(P), [W.sample(500, sf.Noise(0))], sorted(t for t in times if t > 0), sf.Noise(1))
x = sf.sample(D, sf.samplers.Ancestral(), shape=(999, 4), times=times, noise=sf.Noise(2))
print(x.mean(), x.std())'"""


class AnalyticDPM(Wrapper):
    """`inner` with one variance of x_0 for each time, the same for every element and every x_t, estimated on data.

        Var = (sigma^2 / alpha^2) (1 - G_t),   G_t = E |eps_hat(x_t)|^2 / d,   held to [0, (high - low)^2 / 4]

    With it `Ancestral(analytic(last))`, at any eta and any number of steps, has the variance that is optimal in KL for
    this mean. G must be estimated with the model that is sampled, on its own process. Between the times of the table G
    is linear in t (ours: the paper estimates it at the steps of its grid); outside, that of the nearest end. Where
    alpha = 0 the variance is its bound. On data N(m, c I) sampling is exact in any number of steps.

    Args:
        inner: the denoiser; its own variance is replaced.
        times: rising, above 0.
        moments: G at these times.
        low, high: range of the data in model space; infinite ends: no bound.

    Raises:
        ValueError: for times that do not rise from above 0, or as many moments.

    Source: Bao et al. 2022 (2201.06503) theorem 1 and 2, eq. 8 and 9.
    """

    times: Tensor
    moments: Tensor

    def __init__(
        self, inner: Denoiser, times: Sequence[float], moments: Sequence[float], *, low: float = -1.0, high: float = 1.0
    ) -> None:
        super().__init__(inner)
        if not times or len(times) != len(moments) or any(b <= a for a, b in zip((0.0, *times), times, strict=False)):
            raise ValueError(f"give times that rise, above 0, and a moment for each: got {times} and {moments}.")
        self.register_buffer("times", torch.tensor(times, dtype=torch.float64))
        self.register_buffer("moments", torch.tensor(moments, dtype=torch.float64))
        self.bound = 0.25 * (high - low) ** 2

    @classmethod
    @torch.no_grad()
    def estimate(
        cls,
        inner: Denoiser,
        batches: Iterable[Tensor],
        times: Sequence[float],
        noise: Noise,
        *,
        low: float = -1.0,
        high: float = 1.0,
    ) -> AnalyticDPM:
        """With G_t by Monte Carlo: one x_t of each x_0 and time, len(times) calls of `inner` for each batch.

        Args:
            batches: of x_0, (B, *event), model space.

        Raises:
            ValueError: without data.
        """
        process = inner.process
        assert isinstance(process, Gaussian)
        totals, count = [0.0] * len(times), 0
        for x0 in batches:
            count += x0.numel()
            for i, t in enumerate(times):
                xt = process.marginal(x0, t).sample(noise)
                totals[i] += float(process.eps(xt, inner(xt, t).mean, t).double().square().sum())
        if count == 0:
            raise ValueError("the variance is estimated on data: got no batch.")
        return cls(inner, times, [total / count for total in totals], low=low, high=high)

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        return estimate._replace(var=expand(self.variance(t), xt).expand_as(xt))

    def variance(self, t: Time) -> Tensor:
        """Var at t: a number, or one for each."""
        process = self.process
        assert isinstance(process, Gaussian)
        where = torch.as_tensor(t, dtype=torch.float64, device=self.times.device)
        i = torch.searchsorted(self.times, where.contiguous()).clamp(1, max(len(self.times) - 1, 1))
        a, b = (self.times[j.clamp(max=len(self.times) - 1)] for j in (i - 1, i))
        share = ((where - a) / (b - a).clamp(min=1e-300)).clamp(0.0, 1.0)
        G = torch.lerp(self.moments[i - 1], self.moments[i.clamp(max=len(self.times) - 1)], share)
        alpha, level = (torch.as_tensor(v, dtype=torch.float64) for v in (process.alpha(t), process._level(t)))
        ratio = torch.where(alpha > 0, level / torch.where(alpha > 0, alpha, 1.0), math.inf)
        value = torch.where(alpha > 0, ratio**2 * (1.0 - G), self.bound)
        return value.clamp(0.0, self.bound)


def analytic(last: float, *, eta: float = 1.0, fluctuation: float = 1.0) -> Reverse:
    """The law of a step with all the variance that the estimate knows, quiet at the end, for `Ancestral`.

    The step to s = 0 returns its mean; the one to s <= `last`, the last noisy time of the grid, has a standard
    deviation of sqrt(pi / 2) 2 `fluctuation` / 255 at most, so that E |std z| <= 2 / 255 times it: pictures in [-1, 1].

    Args:
        last: times[-2] of the grid.
        eta: 1 Analytic-DDPM, 0 Analytic-DDIM.
        fluctuation: y of the paper, 1 or 2.

    Source: Bao et al. 2022 (2201.06503) section 3.2 and appendix.
    """
    most = math.sqrt(0.5 * math.pi) * 2.0 * fluctuation / 255.0

    def reverse(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: float = 0.0) -> Normal:
        assert isinstance(s, float)
        law = process.reverse(estimate, xt, t, s, eta)
        assert isinstance(law, Normal)
        if s > last:
            return law
        if s == 0.0:
            return Normal(law.mean, 0.0)
        std = law.std
        return Normal(law.mean, std.clamp(max=most) if isinstance(std, Tensor) else min(std, most))

    return reverse


Recipe = AnalyticDPM
