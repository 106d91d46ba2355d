"""CFG: classifier-free diffusion guidance (Ho & Salimans 2021, 2207.12598)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Time

EXAMPLE = "sfumato sample fashion --cond 9 --scale 2 -n 16 -o out"


def nothing(cond: Any) -> None:
    """The null of a denoiser whose absent condition is None."""
    return


class CFG(Wrapper):
    """D_null + scale (D_c - D_null), two calls; scale = 1 + w in the paper's w.

    scale 1 is the conditional denoiser and 0 the unconditional one, each at one call. The variance is the conditional
    one's. Where data of two conditions are normals of one covariance, the result is the normal with mean
    m_null + scale (m_c - m_null); in general it does not sample p(x) p(c | x)^scale.

    Args:
        inner: a denoiser trained with condition dropout.
        scale: strength of the guidance.
        null: what stands for no condition, as a function of the condition (it may keep an image and drop a class).

    Source: Ho & Salimans 2021 (2207.12598) eq. 6, which is linear in every kind of prediction.
    """

    def __init__(self, inner: Denoiser, scale: float = 3.0, null: Callable[[Any], Any] = nothing) -> None:
        super().__init__(inner)
        self.scale, self.null = scale, null

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        if self.scale == 1.0:
            return self.inner(xt, t, cond)
        without: Estimate = self.inner(xt, t, self.null(cond))
        if self.scale == 0.0:
            return without
        with_c: Estimate = self.inner(xt, t, cond)
        return with_c._replace(mean=without.mean.lerp(with_c.mean, self.scale))


Recipe = CFG
