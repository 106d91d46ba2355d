"""Convolution with borders that are not circular: reflected or zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor
from torch.nn import functional

from sfumato.operators.base import Linear
from sfumato.operators.blur import convolve, spectrum


@dataclass(frozen=True, eq=False)
class Convolution(Linear):
    """y_i = sum_j k_j x_(i - j + floor(width / 2)) on each channel, of data that goes on beyond its borders.

    With reflected borders the adjoint folds them back and is not the convolution with the flipped kernel: it comes from
    automatic differentiation. Pseudo-inverse and `solve` by conjugate gradients: blurs are ill-conditioned,
    and A^+ then stops at 200 steps, short of their smallest singular values.

    Args:
        kernel: taps, (k_h, k_w) for images (B, C, H, W), (k,) for signals (B, C, L).
        padding: "reflect" (without repeating the edge, as in DPS's code) or "zero".

    Raises:
        ValueError: for another padding, or data not larger than the border that is reflected.
    """

    kernel: Tensor
    padding: Literal["reflect", "zero"] = "reflect"

    def __post_init__(self) -> None:
        if self.padding not in ("reflect", "zero"):
            raise ValueError(f'padding is "reflect" or "zero", got {self.padding!r}: Blur is circular.')
        if self.kernel.ndim not in (1, 2):
            raise ValueError(f"a kernel has one axis (signals) or two (images), got {tuple(self.kernel.shape)}.")

    def at(self, parameters: Tensor) -> Convolution:
        """The operator with another kernel; differentiable in it."""
        return replace(self, kernel=parameters)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def __call__(self, x: Tensor) -> Tensor:
        axes = self.kernel.ndim
        if x.ndim != axes + 2:
            raise ValueError(f"a kernel of {axes} axes takes data (B, C, ...) of {axes + 2}, got {tuple(x.shape)}.")
        if self.padding == "reflect" and any(k // 2 >= n for k, n in zip(self.kernel.shape, x.shape[2:], strict=True)):
            raise ValueError(
                f"data of {tuple(x.shape[2:])} cannot be reflected for a kernel of {tuple(self.kernel.shape)}: use "
                "zero padding, a smaller kernel, or Blur."
            )
        border = [n for k in reversed(self.kernel.shape) for n in (k - 1 - k // 2, k // 2)]
        padded = functional.pad(x, border, mode="reflect" if self.padding == "reflect" else "constant")
        # by FFT (61 x 61 taps would cost a hundred times more): what wraps around falls outside the part that is kept
        y = convolve(spectrum(self.kernel, tuple(padded.shape[2:])), padded, tuple(range(-axes, 0)))
        for axis, k in zip(range(2, 2 + axes), self.kernel.shape, strict=True):
            y = y.narrow(axis, k - 1 - k // 2, x.shape[axis])
        return y
