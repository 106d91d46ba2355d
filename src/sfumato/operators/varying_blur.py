"""Blur that changes over the picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.operators.base import Linear, cast
from sfumato.operators.blur import Blur


@dataclass(frozen=True, eq=False)
class VaryingBlur(Linear):
    """y = sum_k w_k (k_k * x): a few circular blurs, blended pixel by pixel of the result.

    A^T y = sum_k A_k^T (w_k y). Pseudo-inverse and `solve` by conjugate gradients.

    Args:
        blurs: one or more, all of one size.
        weights: (K, *size), the share of each blur at each pixel; shares that sum to 1 keep the brightness.

    Raises:
        ValueError: for blurs of different sizes, or weights of another shape.
    """

    blurs: tuple[Blur, ...]
    weights: Tensor

    def __post_init__(self) -> None:
        sizes = {tuple(blur.size) for blur in self.blurs}
        if len(sizes) != 1 or tuple(self.weights.shape) != (len(self.blurs), *next(iter(sizes))):
            raise ValueError(
                f"blurs of one size and weights (K, *size) are needed, got {len(self.blurs)} blurs of sizes "
                f"{sorted(sizes)} and weights {tuple(self.weights.shape)}."
            )

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def __call__(self, x: Tensor) -> Tensor:
        parts = [w * blur(x) for w, blur in zip(cast(self.weights, x), self.blurs, strict=True)]
        return sum(parts[1:], parts[0])

    def adjoint(self, y: Tensor) -> Tensor:
        parts = [blur.adjoint(w * y) for w, blur in zip(cast(self.weights, y), self.blurs, strict=True)]
        return sum(parts[1:], parts[0])
