"""UniPC: a predictor-corrector whose corrector costs no call (Zhao et al. 2023, 2302.04867)."""

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
from sfumato.samplers.dpmpp import reach, remembered


@dataclass(frozen=True)
class UniPC(Sampler):
    """Order p + 1 at one call a step: each estimate first corrects the step that led to it, then predicts the next.

    Predictor: the polynomial through the last p estimates; corrector: through these and the new one, which was made at
    the uncorrected state and is used again as the newest of the next predictor. Both are integrated exactly in half log
    SNR, but for the paper's shortcut rho = 1/2, which only a predictor of order 2 and a corrector of order 1 take, and
    which is all that `variant` changes: with B = e^{-h} - 1 ("bh2") or -h ("bh1") and D_k = (D_{t_k} - D) / r_k,

        predictor of order 2:  x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^{-h}) D - alpha_s B D_1 / 2.

    The state after the last step is predicted, not corrected. Long steps, and steps to sigma = 0 or from alpha = 0, are
    guarded as in `DPMpp3M`, and are not corrected. Times are shared by the batch: floats.

    Memory: (known (half log SNR, D) newest first, corrected x_t, t, predicted x_s).

    Args:
        order: p, from 1 on; 3 for unconditional models, 2 for guided ones.
        variant: "bh2", or "bh1" for fewer than 10 steps of an unconditional model.

    Source: Zhao et al. 2023 (2302.04867) algorithms 5 to 8 and appendix F.
    """

    order: int = 3
    variant: str = "bh2"

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ValueError(f"the order of UniPC is at least 1, got {self.order}.")
        if self.variant not in ("bh1", "bh2"):
            raise ValueError(f"variant is 'bh1' or 'bh2', got {self.variant!r}.")

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        D, here = denoiser(xt, t).mean, 0.5 * process.log_snr(t)
        past = None
        if memory is not None:
            past, before, earlier, predicted = memory
            h = exponential.step_size(process, earlier, t)
            if math.isfinite(h) and h > 0.0:
                nodes, values = reach(past, h, self.order)
                target = self._mean(h, [*nodes, 1.0], [*values, D], shortcut=len(nodes) == 1)
                # As a difference, so that what was done to x_t since the prediction (a corrector, a projection) stays.
                xt = xt + (process.reverse(Estimate(target), before, earlier, t, 0.0).mean - predicted)
        known = remembered(past, here, D)[: self.order]
        h = exponential.step_size(process, t, s)
        nodes, values = reach(known, h, self.order)
        target = self._mean(h, nodes, values, shortcut=len(nodes) == 2)
        xs = process.reverse(Estimate(target), xt, t, s, 0.0).mean
        return xs, (known, xt, t, xs)

    def _mean(self, h: float, nodes: list[float], values: list[Tensor], *, shortcut: bool) -> Tensor:
        if len(nodes) == 1:
            return values[0]
        if not shortcut:
            return exponential.blend(h, nodes, values)
        factor = 1.0 if self.variant == "bh2" else h / -math.expm1(-h)
        return values[0].lerp(values[1], 0.5 * factor / nodes[1])


Recipe = UniPC
