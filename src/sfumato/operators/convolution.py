"""Convolution with borders that are not circular: reflected, zero, or beyond what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sfumato.noise import Noise
from sfumato.operators import kernels
from sfumato.operators.base import Linear, own
from sfumato.operators.blur import convolve, spectrum


@dataclass(frozen=True, eq=False)
class Convolution(Linear):
    """y_i = sum_j k_j x_(i - j + floor(width / 2)) on each channel, of data that goes on beyond its borders.

    What a camera does is "valid": the scene goes on, so x_0 is larger than y by the width of the kernel less one, and
    nothing is supposed of it. The other two keep the size and suppose something.

    With reflected borders the adjoint folds them back and is not the convolution with the flipped kernel: it comes from
    automatic differentiation. Pseudo-inverse and `solve` by conjugate gradients: blurs are ill-conditioned, and A^+
    then stops at 200 steps, short of their smallest singular values.

    Args:
        kernel: taps, (k_h, k_w) for images (B, C, H, W), (k,) for signals (B, C, L); one for each row is (B, 1, *taps).
        padding: "reflect" (without repeating the edge, as in DPS's code), "zero" or "valid".

    Raises:
        ValueError: for another padding, or data not larger than the border that is reflected, or than the kernel.
    """

    kernel: Tensor
    padding: Literal["reflect", "zero", "valid"] = "reflect"

    def __post_init__(self) -> None:
        if self.padding not in ("reflect", "zero", "valid"):
            raise ValueError(f'padding is "reflect", "zero" or "valid", got {self.padding!r}: Blur is circular.')
        if self.kernel.ndim not in (1, 2) and not (self.kernel.ndim in (3, 4) and self.kernel.shape[1] == 1):
            raise ValueError(
                "a kernel has one axis (signals) or two (images), or one for each row is (B, 1, *taps), got "
                f"{tuple(self.kernel.shape)}."
            )

    @classmethod
    def gaussian(
        cls,
        std: float = 3.0,
        *,
        width: int = 61,
        axes: int = 2,
        padding: Literal["reflect", "zero", "valid"] = "reflect",
    ) -> Convolution:
        """A normal kernel cut at 4 std. Source: DPS (2209.14687): 61 x 61 taps, std 3, reflected borders."""
        taps = kernels.normal(width, std, radius=int(4 * std + 0.5))
        return cls(reduce(torch.Tensor.mul, torch.meshgrid(*[taps] * axes, indexing="ij")), padding)

    @classmethod
    def motion(
        cls,
        noise: Noise,
        *,
        width: int = 61,
        intensity: float = 0.5,
        padding: Literal["reflect", "zero", "valid"] = "reflect",
    ) -> Convolution:
        """A random camera shake, see `kernels.motion`. Source: DPS (2209.14687): 61 x 61, intensity 0.5, reflected."""
        return cls(kernels.motion(noise, width, intensity), padding)

    @property
    def parameters(self) -> Tensor:
        return self.kernel

    @property
    def taps(self) -> tuple[int, ...]:
        """Shape of one kernel."""
        return tuple(self.kernel.shape[-2:] if self.kernel.ndim % 2 == 0 else self.kernel.shape[-1:])

    def inside(self, y: Tensor) -> tuple[Any, ...]:
        """Where y lies in x_0, which is larger if borders are valid: an index."""
        if self.padding != "valid":
            return (...,)
        first = [k - 1 - k // 2 for k in self.taps]
        return (..., *(slice(a, a + n) for a, n in zip(first, y.shape[2:], strict=True)))

    def of_rows(self, index: Sequence[int], y: Tensor) -> Convolution:
        return replace(self, kernel=own(self.kernel, index, y))

    def at(self, parameters: Tensor) -> Convolution:
        """The operator with another kernel; differentiable in it."""
        return replace(self, kernel=parameters)

    def event(self, y: Tensor) -> tuple[int, ...]:
        if self.padding != "valid":
            return tuple(y.shape[1:])
        return (*y.shape[1:2], *(n + k - 1 for n, k in zip(y.shape[2:], self.taps, strict=True)))

    def __call__(self, x: Tensor) -> Tensor:
        axes, taps = len(self.taps), self.taps
        if x.ndim != axes + 2:
            raise ValueError(f"a kernel of {axes} axes takes data (B, C, ...) of {axes + 2}, got {tuple(x.shape)}.")
        if self.padding == "reflect" and any(k // 2 >= n for k, n in zip(taps, x.shape[2:], strict=True)):
            raise ValueError(
                f"data of {tuple(x.shape[2:])} cannot be reflected for a kernel of {taps}: use "
                "zero padding, a smaller kernel, or Blur."
            )
        if self.padding == "valid" and any(k > n for k, n in zip(taps, x.shape[2:], strict=True)):
            raise ValueError(f"data of {tuple(x.shape[2:])} are smaller than the kernel {taps}.")
        border = [n for k in reversed(taps) for n in (k - 1 - k // 2, k // 2)]
        padded = x
        if self.padding != "valid":
            padded = functional.pad(x, border, mode="reflect" if self.padding == "reflect" else "constant")
        # by FFT (61 x 61 taps would cost a hundred times more): what wraps around falls outside the part that is kept
        y = convolve(spectrum(self.kernel, tuple(padded.shape[2:])), padded, tuple(range(-axes, 0)))
        for axis, k in zip(range(2, 2 + axes), taps, strict=True):
            y = y.narrow(axis, k - 1 - k // 2, padded.shape[axis] - k + 1)
        return y
