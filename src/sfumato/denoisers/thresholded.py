"""Dynamic thresholding (Saharia et al. 2022, 2205.11487)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers.base import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Time


class Thresholded(Wrapper):
    """The mean clipped to [-m, m] and divided by m, m the larger of 1 and a quantile of |mean|, per sample.

    For data in [-1, 1] under strong guidance: it pushes saturated elements inwards, where `Clipped` leaves them at the
    ends. Source: Saharia et al. 2022 (2205.11487) section 2.3.

    Args:
        inner: a denoiser, guided as a rule.
        share: the quantile, p of the paper.
    """

    def __init__(self, inner: Denoiser, share: float = 0.995) -> None:
        super().__init__(inner)
        self.share = share

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        sizes = estimate.mean.abs().flatten(1)
        # The quantile by sorting: torch.quantile takes at most 16 million elements. Linear between neighbours.
        place = self.share * (sizes.shape[1] - 1)
        low = int(place)
        ordered = sizes.sort(1).values
        m = ordered[:, low].lerp(ordered[:, min(low + 1, sizes.shape[1] - 1)], place - low).clamp(min=1.0)
        m = m.reshape(-1, *[1] * (xt.ndim - 1))
        return estimate._replace(mean=torch.minimum(torch.maximum(estimate.mean, -m), m) / m)
