"""Rescaled classifier-free guidance, against overexposure at large scales (Lin et al. 2024, 2305.08891)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.guides.cfg import CFG, nothing
from sfumato.processes import Time


class RescaledCFG(CFG):
    """Guided by CFG, then brought towards the standard deviation that the conditional estimate has over its event:

        D <- D^ (share std(D_c) / std(D^) + 1 - share).

    Per sample. The paper rescales the network's own output, v; here it is the estimate of x_0 (ours).

    Args:
        inner, scale, null: as of `CFG`; the paper has scale 7.5.
        share: phi of the paper, 0 (CFG) to 1.

    Source: Lin et al. 2024 (2305.08891) eq. 14 to 16.
    """

    def __init__(
        self, inner: Denoiser, scale: float = 7.5, null: Callable[[Any], Any] = nothing, *, share: float = 0.7
    ) -> None:
        super().__init__(inner, scale, null)
        self.share = share

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        without: Estimate = self.inner(xt, t, self.null(cond))
        with_c: Estimate = self.inner(xt, t, cond)
        guided = without.mean.lerp(with_c.mean, self.scale)
        ratio = with_c.mean.flatten(1).std(1) / guided.flatten(1).std(1)
        factor = self.share * ratio + (1.0 - self.share)
        return with_c._replace(mean=guided * factor.reshape(-1, *[1] * (xt.ndim - 1)))
