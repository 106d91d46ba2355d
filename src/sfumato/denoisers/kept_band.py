"""A band that is never noised is read off the state, whatever the network says of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import HighBand, Time


class KeptBand(Denoiser):
    """P D(x_t) + (I - P) x_t: the estimate of `inner`, with the low band of the state.

    Args:
        inner: a denoiser of the process's own schedule, which sees x_t as it is: what it says in the low band is
            ignored, and has no gradient.
        process: whose low band it is.

    Source: Cao et al. 2022 (2208.05481) section III; the public code projects the score in its loss and corrector.
    """

    process: HighBand

    def __init__(self, inner: Denoiser, process: HighBand) -> None:
        super().__init__()
        self.inner, self.process = inner, process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        mean = self.inner(xt, t, cond).mean
        return Estimate(self.process.high(mean) + self.process.low(xt))
