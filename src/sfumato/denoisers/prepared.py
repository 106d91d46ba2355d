"""A denoiser behind a network of its own: what it is told is what that network makes of the condition."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Time


class Prepared(Wrapper):
    """`inner` told m(y) in the place of y = cond["image"], m = `first`: no gradient of its losses reaches m.

    Args:
        first: (B, C, H, W) to (B, C, H, W).
    """

    def __init__(self, inner: Denoiser, first: nn.Module) -> None:
        super().__init__(inner)
        self.first = first

    def prepared(self, cond: Any) -> Any:
        """The condition with m(y) in the place of y."""
        return {**cond, "image": self.first(cond["image"]).detach()}

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, None if cond is None else self.prepared(cond))
        return estimate
