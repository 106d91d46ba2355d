"""What a network makes of the condition, once for a draw: an anchor, or features."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Time


class Predicted(Wrapper):
    """`inner`, whose condition {"image": y} gets an entry that `predictor`, a part of the denoiser, makes of y.

    `prepare` makes it: once for a whole draw, and once for a batch in training, so that x_t and the estimate share it
    and gradients reach `predictor` through both. As "anchor" it is m(y), read by the process of a `Residual`.

    Args:
        inner: a denoiser that takes a dict.
        predictor: y, (B, C, H, W), to the entry; of the height and width of y where `Windowed` is to cut it.
        key: of the entry.
        learn: gradients of `inner`'s loss reach the predictor; otherwise the entry is a number to it.
    """

    def __init__(self, inner: Denoiser, predictor: nn.Module, key: str = "anchor", *, learn: bool = True) -> None:
        super().__init__(inner)
        self.predictor, self.key, self.learn = predictor, key, learn

    def prepare(self, cond: Any) -> Any:
        """The condition with the entry; as it is where it has one."""
        if cond is None or self.key in cond:
            return cond
        found = self.predictor(cond["image"])
        return self.inner.prepare({**cond, self.key: found if self.learn else found.detach()})

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.inner(xt, t, self.prepare(cond))
