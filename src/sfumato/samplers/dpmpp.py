"""DPM-Solver++: exponential integrators with D as the unknown (Lu et al. 2022, 2211.01095).

Multistep: `DPMpp2M`, `DPMpp3M`, one call a step, and with `eta` > 0 their SDE forms. Single step: `DPMpp2S`, `DPMpp3S`,
two and three calls, no memory. The derivation is in `exponential`. In all a step to sigma = 0 or from alpha = 0, where
the step in half log SNR is infinite, is first order. Times are shared by the batch: floats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers import exponential
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class DPMpp2M(Sampler):
    """One call a step, second order: D is extrapolated from the last two, then integrated exactly in half log SNR.

        x_s = e^{-eta h} (sigma_s / sigma_t) x_t + alpha_s (1 - e^{-(1 + eta) h}) (D + w (D - D_last))
              + sigma_s sqrt(1 - e^{-2 eta h}) z,      w = h / (2 h_last),

    h the step in log(alpha / sigma), the paper's lambda (half of this library's log SNR). The first is of first order.
    `w` is held to 1 (ours): a step twice as long as the one before has w = 1, and beyond that extrapolation does harm.

    Memory: (last D, last h).

    Args:
        eta: 0 the flow, 1 SDE-DPM-Solver++ 2M. Between them it is not DDIM's eta.

    Source: Lu et al. 2022 (2211.01095) algorithm 2 and, for eta = 1, eq. 18.
    """

    eta: float = 0.0

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D, h = denoiser(xt, t).mean, 0.5 * (process.log_snr(s) - process.log_snr(t))
        target = D
        if memory is not None and math.isfinite(h) and math.isfinite(memory[1]):
            last, h_last = memory
            target = D.lerp(last, -min(0.5 * h / h_last, 1.0))
        eta = exponential.share(self.eta, h)
        return process.reverse(Estimate(target), xt, t, s, eta).sample(noise), (D, h)


@dataclass(frozen=True)
class DPMpp3M(Sampler):
    """One call a step, third order: the parabola through the last three D, integrated exactly in half log SNR.

    The first steps have as many estimates as there are; a step more than twice as long as the one before uses one
    estimate alone (ours), as extrapolation that far does harm. With eta > 0 the order in law stays 2.

    Memory: (half log SNR, D) of the last calls, newest first.

    Args:
        eta: 0 the flow, 1 the SDE form. Between them it is not DDIM's eta.
        published: take the second divided difference for the second derivative, without the factor 2 between them, as
            the public code does: second order. To compare with published images.

    Source: Lu et al. 2022 (2211.01095) appendix B; the public code for the multistep form.
    """

    eta: float = 0.0
    published: bool = False

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D, h = denoiser(xt, t).mean, exponential.step_size(process, t, s)
        here = 0.5 * process.log_snr(t)
        known = remembered(memory, here, D)
        nodes, values = reach(known, h, 3)
        k = (1.0 + self.eta) * h
        target = D if len(nodes) == 1 else exponential.blend(k, nodes, values)
        if self.published and len(nodes) == 3:
            zeroth, _, second = exponential.moments(k, 3)
            curve = [1.0 / math.prod(a - b for b in nodes if b != a) for a in nodes]
            target = target - 0.5 * second / zeroth * exponential.combine(curve, values)
        eta = exponential.share(self.eta, h)
        return process.reverse(Estimate(target), xt, t, s, eta).sample(noise), known[:2]


@dataclass(frozen=True)
class DPMpp2S(Sampler):
    """Two calls a step, second order: the DDIM step with D at the middle of the step in half log SNR.

    Source: Lu et al. 2022 (2211.01095) algorithm 1 with r = 1/2.
    """

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        target, h = Estimate(denoiser(xt, t).mean), exponential.step_size(process, t, s)
        if math.isfinite(h):
            middle = process.time_of(process.log_snr(t) + h)
            x = process.reverse(target, xt, t, middle, 0.0).mean
            target = Estimate(denoiser(x, middle).mean)
        return process.reverse(target, xt, t, s, 0.0).mean, memory


@dataclass(frozen=True)
class DPMpp3S(Sampler):
    """Three calls a step, third order: D at a third and at two thirds of the step in half log SNR.

    Source: Lu et al. 2022 (2206.00927) algorithm 2 with r1 = 1/3, r2 = 2/3, for D in the place of eps.
    """

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D, h = denoiser(xt, t).mean, exponential.step_size(process, t, s)
        target = D
        if math.isfinite(h):
            a, b = (process.time_of(process.log_snr(t) + 2.0 * r * h) for r in (1.0 / 3.0, 2.0 / 3.0))
            x = process.reverse(Estimate(D), xt, t, a, 0.0).mean
            slope = exponential.blend(2.0 / 3.0 * h, (0.0, 0.5), (D, denoiser(x, a).mean))
            x = process.reverse(Estimate(slope), xt, t, b, 0.0).mean
            target = exponential.blend(h, (0.0, 2.0 / 3.0), (D, denoiser(x, b).mean))
        return process.reverse(Estimate(target), xt, t, s, 0.0).mean, memory


Known = tuple[tuple[float, Tensor], ...]


def remembered(memory: Known | None, here: float, D: Tensor) -> Known:
    """(half log SNR, D) of this call and of those before it, newest first; a call at alpha = 0 is forgotten."""
    return ((here, D), *(point for point in memory or () if math.isfinite(point[0])))


def reach(known: Known, h: float, order: int) -> tuple[list[float], list[Tensor]]:
    """Nodes, in units of the step h from the newest point, and their D: as many as `order`, one if the step is long."""
    here = known[0][0]
    if not math.isfinite(h) or h == 0.0 or len(known) == 1 or h > 2.0 * (here - known[1][0]) * (1.0 + 1e-9):
        return [0.0], [known[0][1]]
    return [(l - here) / h for l, _ in known[:order]], [D for _, D in known[:order]]
