"""Magnetic resonance with several coils: each sees the image through its own sensitivity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.operators import kspace
from sfumato.operators.base import Linear, cast
from sfumato.operators.fourier import check_size, checked


@dataclass(frozen=True, eq=False)
class SENSE(Linear):
    """y_c = M F (S_c x) for coils c: A^T y = sum_c conj(S_c) F^* M y_c, of real images the real part of it.

    Images are (B, 1, H, W) real or (B, 2, H, W) complex, y is (B, coils, 2, H, W), zero where nothing was sampled.
    Where sum_c |S_c|^2 = 1 and every frequency is sampled, A^T A = I. Pseudo-inverse and `solve` are found by
    conjugate gradients.

    Args:
        maps: S, complex, (coils, H, W): given, or found by `sensitivities` or `espirit.espirit`.
        mask: (H, W), as of `Fourier`.
        complex_valued: whether images are complex.

    Raises:
        ValueError: for maps that are not complex or not of the size of the mask.

    Source: Pruessmann et al. 1999, Magnetic Resonance in Medicine 42, as a least-squares problem.
    """

    maps: Tensor
    mask: Tensor
    complex_valued: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", checked(self.mask))
        if not self.maps.is_complex() or self.maps.ndim != 3 or self.maps.shape[1:] != self.mask.shape:
            raise ValueError(
                f"maps are complex, (coils, *{tuple(self.mask.shape)}), got {tuple(self.maps.shape)} {self.maps.dtype}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        check_size(self.mask, x)
        if x.shape[1] != (2 if self.complex_valued else 1):
            raise ValueError(f"an image has 1 channel, or 2 if it is complex-valued, got {tuple(x.shape)}.")
        image = kspace.to_complex(x).unsqueeze(1) if self.complex_valued else x
        return kspace.to_channels(kspace.transform(cast(self.maps, x) * image)) * cast(self.mask, x)

    def adjoint(self, y: Tensor) -> Tensor:
        coils = kspace.inverse(kspace.to_complex(y * cast(self.mask, y)))
        image = (cast(self.maps, y).conj() * coils).sum(1)
        return kspace.to_channels(image) if self.complex_valued else image.real.unsqueeze(1)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (2 if self.complex_valued else 1, *y.shape[3:])

    def seen(self, y: Tensor) -> Tensor:
        """1 where y is a measurement, 0 where it is empty."""
        return cast(self.mask, y)


def sensitivities(y: Tensor, width: int) -> Tensor:
    """Maps (coils, H, W) from the middle of k-space: image of each coil over the root of the sum of their squares.

    The middle square is weighted by a Hann window against ringing. The maps carry the phase of the smooth image, so
    that the image they belong to has none of it; where nothing was seen they are 0.

    Args:
        y: one measurement (coils, 2, H, W), whose middle square was fully sampled.
        width: side of that square.

    Source: Roemer et al. 1990, Magnetic Resonance in Medicine 16; McKenzie et al. 2002 (self-calibration), ibid. 47.
    """
    coils = low_resolution(y, width)
    whole = coils.abs().square().sum(0).sqrt()
    return torch.where(whole > 0, coils / torch.where(whole > 0, whole, 1.0), 0.0)


def low_resolution(y: Tensor, width: int) -> Tensor:
    """Images (coils, H, W) of the middle square of k-space, under a Hann window, complex; y as of `sensitivities`."""
    H, W = y.shape[-2:]
    if not 1 <= width <= min(H, W):
        raise ValueError(f"a square of 1 to {min(H, W)} fits k-space of {(H, W)}, got {width}.")
    window = [
        (0.5 + 0.5 * torch.cos(2 * math.pi * at / (width + 1))) * (2 * at.abs() <= width)
        for at in (torch.arange(n, dtype=torch.float64) - n // 2 for n in (H, W))
    ]
    return kspace.inverse(kspace.to_complex(y * cast(window[0][:, None] * window[1], y)))


def birdcage(size: tuple[int, int], coils: int = 8, *, distance: float = 1.5) -> Tensor:
    """Sensitivities of long straight wires around the image, (coils, H, W) complex128, sum of squares 1 (ours).

    S_c is proportional to 1 / (z - z_c), the field of a line current, z the pixel as a complex number with the middle
    of the sides at 1, and z_c on a circle of radius `distance` above sqrt(2).
    """
    if distance <= math.sqrt(2.0) or coils < 1:
        raise ValueError(f"at least 1 coil beyond the corners, sqrt(2), is needed, got {coils} at {distance}.")
    rows, cols = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / (n / 2) for n in size)
    z = torch.complex(cols.expand(size), rows[:, None].expand(size))
    angles = 2 * math.pi * torch.arange(coils, dtype=torch.float64) / coils
    maps = 1.0 / (z - torch.polar(torch.full_like(angles, distance), angles)[:, None, None])
    return maps / maps.abs().square().sum(0).sqrt()
