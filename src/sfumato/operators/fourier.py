"""Magnetic resonance with one coil: samples of k-space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.operators import kspace
from sfumato.operators.base import Spectral, cast


@dataclass(frozen=True, eq=False)
class Fourier(Spectral):
    """y = M F x: F the unitary Fourier transform with zero frequency in the middle, M a mask.

    y is (B, C, 2, H, W), real and imaginary part, zero where nothing was sampled, and so is its noise; sigma is the
    standard deviation of each of the two parts. (Codes whose transform is divided by n, or by nothing, have other
    sigmas: times 1 / sqrt(H W) for torch's plain fft2.)

    - Real images (B, C, H, W), each channel one image. A frequency and its opposite are then one pair of numbers:
      coefficients are complex and s = sqrt((M(k) + M(-k)) / 2), which is 1 where both are sampled and 1 / sqrt(2) where
      one of them is. So A^+ fills the other by symmetry, which the real part of F^* y, A^T y, does only by half.
    - Complex images (B, 2 C, H, W), each two channels one image. Coefficients are real, (B, 2 C, H, W), s = M, and
      A^+ = A^T.

    Args:
        mask: (H, W), true or 1 where sampled, zero frequency in the middle: see `kspace`.
        complex_valued: whether images are complex.

    Raises:
        ValueError: for another mask, or data of another size.
    """

    mask: Tensor
    complex_valued: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", checked(self.mask))

    @property
    def s(self) -> Tensor:  # type: ignore[override]
        mask = self.mask.double()
        return mask if self.complex_valued else ((mask + kspace.mirrored(mask)) / 2).sqrt()

    def seen(self, y: Tensor) -> Tensor:
        """1 where y is a measurement, 0 where it is empty."""
        return cast(self.mask, y)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (y.shape[1] * (2 if self.complex_valued else 1), *y.shape[3:])

    def Vt(self, x: Tensor) -> Tensor:
        check_size(self.mask, x)
        if not self.complex_valued:
            return kspace.transform(x)
        return kspace.to_channels(kspace.transform(kspace.to_complex(x.unflatten(1, (-1, 2))))).flatten(1, 2)

    def V(self, z: Tensor) -> Tensor:
        if not self.complex_valued:
            return kspace.inverse(z).real
        return kspace.to_channels(kspace.inverse(kspace.to_complex(z.unflatten(1, (-1, 2))))).flatten(1, 2)

    def Ut(self, y: Tensor) -> Tensor:
        if self.complex_valued:
            return (y * cast(self.mask, y)).flatten(1, 2)
        w = kspace.to_complex(y * self._gain(y))
        return (w + kspace.mirrored(w).conj()) / 2

    def U(self, z: Tensor) -> Tensor:
        if self.complex_valued:
            return (z * cast(self.mask, z)).unflatten(1, (-1, 2))
        return kspace.to_channels(z * self._gain(z))

    def _gain(self, like: Tensor) -> Tensor:
        """M / s, which is 0 where nothing was sampled."""
        return cast(torch.where(self.mask > 0, 1.0 / self.s, 0.0), like)


def checked(mask: Tensor) -> Tensor:
    """A mask (H, W) of k-space in the default precision."""
    if mask.ndim != 2 or not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"a mask of k-space is (H, W) and holds 1 and 0 only, got shape {tuple(mask.shape)}.")
    return mask.to(torch.get_default_dtype())


def check_size(mask: Tensor, x: Tensor) -> None:
    """Raises ValueError unless x has the size of the mask."""
    if x.shape[-2:] != mask.shape:
        raise ValueError(f"the mask is {tuple(mask.shape)}, got data {tuple(x.shape)}: make another mask.")
