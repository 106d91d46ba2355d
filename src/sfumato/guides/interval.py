"""Interval guidance: applying guidance in a limited interval (Kynkaanniemi et al. 2024, 2404.07724)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Gaussian, Time, expand

EXAMPLE = """\
python -c 'import torch, sfumato as sf; m = sf.load("fashion")
D = sf.guides.Interval(sf.guides.CFG(m.denoiser, 2.0))
x = sf.sample(D.given(torch.full((4,), 9)), sf.samplers.Arc(), shape=(4, 1, 28, 28), noise=sf.Noise(0),
    times=sf.grids.default(D.process, 10)); print(x.shape)'"""


class Interval(Wrapper):
    """The guide where low < sigma / alpha <= high, and the denoiser that it guides elsewhere, at that one's calls.

    `Interval(CFG(denoiser, 2.0))`: any guide that wraps the denoiser it guides. The bounds are in EDM's unit, and the
    interval does not depend on the number of steps; find `high` first, with low = 0.

    Args:
        guide: a wrapper; outside, its `inner` is called.
        low, high: the interval; by default that of EDM2-XXL on ImageNet 512 (with scale 2.0). EDM2-S: 0.28, 2.90, scale
            2.1; DiT-XL/2: 0.34, 1.02, scale 2.5.

    Raises:
        ValueError: unless low < high, or for a guide that wraps nothing.

    Source: Kynkaanniemi et al. 2024 (2404.07724) eq. 5 and 6.
    """

    def __init__(self, guide: Wrapper, low: float = 0.19, high: float = 1.61) -> None:
        if not isinstance(guide, Wrapper):
            raise ValueError(f"Interval needs a guide that wraps the denoiser it guides, got {type(guide).__name__}.")
        if not low < high:
            raise ValueError(f"the interval is low < sigma / alpha <= high, got {low} and {high}.")
        super().__init__(guide)
        self.low, self.high = low, high

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        guide, process = self.inner, self.process.bind(cond)
        assert isinstance(process, Gaussian) and isinstance(guide, Wrapper)
        log_level = -0.5 * process.log_snr(t)
        low = math.log(self.low) if self.low > 0.0 else -math.inf
        within = (log_level > low) & (log_level <= math.log(self.high))
        if not isinstance(within, Tensor) or bool(within.all()) or not bool(within.any()):
            return (guide if bool(torch.as_tensor(within).all()) else guide.inner)(xt, t, cond)
        guided, plain = guide(xt, t, cond), guide.inner(xt, t, cond)
        return guided._replace(mean=torch.where(expand(within, xt).bool(), guided.mean, plain.mean))


Recipe = Interval
