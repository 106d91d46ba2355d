"""Operators that act on each axis alone: A x = A_r x A_c^T. Zero-padded blurs, bicubic reduction.

The singular value decomposition is the product of those of the axes, so nothing larger than an axis is ever stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor

from sfumato.operators.base import Spectral, cast
from sfumato.operators.kernels import normal
from sfumato.operators.matrix import padded_svd


@dataclass(frozen=True, eq=False)
class Separable(Spectral):
    """y = A_r x A_c^T for images (B, C, H, W), channel by channel; y = A x along the last axis for one matrix.

    Singular values s_i s_j, coefficients (B, C, H, W) in the order of the axes. Values of an axis below `threshold` are
    0, in A itself too: A x differs from the product of the matrices by what they carried.

    Args:
        matrices: one for each trailing axis, (measured, size).
        threshold: singular values of an axis below it are 0. Source: the public code of DDRM (2201.11793), 0.03.
        published: the order of singular values of DDRM's and DDNM's public blurs, see `Separable.blur`.

    Raises:
        ValueError: for something else than matrices, or for `published` with other than two square ones.
    """

    matrices: tuple[Tensor, ...]
    threshold: float = 0.03
    published: bool = False
    s: Tensor = field(init=False)
    _Us: tuple[Tensor, ...] = field(init=False)
    _Vs: tuple[Tensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.matrices or any(a.ndim != 2 for a in self.matrices):
            raise ValueError(
                f"one matrix for each axis is needed, got shapes {[tuple(a.shape) for a in self.matrices]}."
            )
        parts = [padded_svd(a.double(), self.threshold) for a in self.matrices]
        s = reduce(torch.Tensor.mul, torch.meshgrid(*(part[1] for part in parts), indexing="ij"))
        object.__setattr__(self, "s", _channel_major(s) if self.published else s)
        object.__setattr__(self, "_Us", tuple(part[0] for part in parts))
        object.__setattr__(self, "_Vs", tuple(part[2].T for part in parts))

    @classmethod
    def blur(
        cls, size: tuple[int, ...], *kernels: Tensor, threshold: float = 0.03, published: bool = False
    ) -> Separable:
        """Zero-padded convolution of data of this size with one kernel for each axis, centred at floor(k / 2).

        published: what the public code of DDRM and DDNM computes instead, for comparison with their figures, three
            channels only: the last tap of a kernel is skipped (the gain per axis is 8 / 9 for nine equal taps, and the
            kernel is off its centre), and the sorted singular values, which belong to pixels, are laid over
            coefficients that hold the channels of a pixel side by side: entry 3 p + c of the whole gets the value
            (3 p + c) mod (H W) instead of p. It is linear, with this adjoint, but no blur: grey turns coloured.
        """
        if len(kernels) != len(size):
            raise ValueError(f"one kernel for each of {len(size)} axes is needed, got {len(kernels)}.")
        matrices = tuple(_convolution(n, k, skip=published) for n, k in zip(size, kernels, strict=True))
        return cls(matrices, threshold, published)

    @classmethod
    def uniform(
        cls, size: tuple[int, ...], width: int = 9, *, threshold: float = 0.03, published: bool = False
    ) -> Separable:
        """`width` equal taps along each axis. Source: DDRM (2201.11793), public code."""
        kernel = torch.full((width,), 1 / width, dtype=torch.float64)
        return cls.blur(size, *[kernel] * len(size), threshold=threshold, published=published)

    @classmethod
    def gaussian(
        cls,
        size: tuple[int, ...],
        width: int = 5,
        std: float = 10.0,
        *,
        threshold: float = 0.03,
        published: bool = False,
    ) -> Separable:
        """A normal kernel cut at `width` taps, nearly uniform by default. Source: DDRM (2201.11793), public code."""
        return cls.blur(size, *[normal(width, std)] * len(size), threshold=threshold, published=published)

    @classmethod
    def anisotropic(
        cls,
        size: tuple[int, int],
        width: int = 9,
        stds: tuple[float, float] = (1.0, 20.0),
        *,
        threshold: float = 0.03,
        published: bool = False,
    ) -> Separable:
        """Normal kernels of two widths: std 1 along the height, 20 along the width. Source: DDRM, public code."""
        kernels = [normal(width, std) for std in stds]
        return cls.blur(size, *kernels, threshold=threshold, published=published)

    @classmethod
    def bicubic(cls, factor: int, size: tuple[int, ...], *, threshold: float = 0.03) -> Separable:
        """Antialiased bicubic reduction: 4 r taps of the cubic (a = -0.5) at (i - 2 r + 0.5) / r, sum 1, stride r.

        Borders are mirrored with the edge repeated; inside it is torch's interpolate(bicubic, antialias=True), which
        renormalizes at borders instead. Source: DDRM (2201.11793), public code.

        Raises:
            ValueError: if the factor does not divide the size.
        """
        if factor < 1 or any(n % factor for n in size):
            raise ValueError(
                f"a factor that divides the size is needed, got {factor} for {size}: crop or pad the data."
            )
        return cls(tuple(_bicubic(n, factor) for n in size), threshold)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (*y.shape[1 : y.ndim - len(self.matrices)], *(a.shape[1] for a in self.matrices))

    def Vt(self, x: Tensor) -> Tensor:
        size = tuple(a.shape[1] for a in self.matrices)
        if tuple(x.shape[-len(size) :]) != size:
            raise ValueError(f"this operator was made for data of size {size}, got {tuple(x.shape)}: make another.")
        return _along(x, self._Vs, transpose=True)

    def V(self, z: Tensor) -> Tensor:
        return _along(z, self._Vs, transpose=False)

    def Ut(self, y: Tensor) -> Tensor:
        return _along(y, self._Us, transpose=True) * (self._s(y) > 0)

    def U(self, z: Tensor) -> Tensor:
        return _along(z * (self._s(z) > 0), self._Us, transpose=False)


def _along(x: Tensor, matrices: tuple[Tensor, ...], *, transpose: bool) -> Tensor:
    """Each matrix, or its transpose, applied along its own trailing axis."""
    for i, matrix in enumerate(matrices):
        a, dim = cast(matrix, x), i - len(matrices)
        if dim == -2:
            x = (a.T if transpose else a) @ x
        else:
            x = (x.transpose(dim, -1) @ (a if transpose else a.T)).transpose(dim, -1)
    return x


def _channel_major(s: Tensor) -> Tensor:
    """Singular values (3, H, W) as DDRM's public code lays them out: see `Separable.blur`."""
    if s.ndim != 2:
        raise ValueError("the published order is defined for images (B, 3, H, W) alone.")
    ordered, pixel = s.flatten().sort(descending=True, stable=True)
    mixed = torch.empty(3, s.numel(), dtype=s.dtype)
    mixed[:, pixel] = ordered.repeat(3).reshape(-1, 3).T
    return mixed.reshape(3, *s.shape)


def _convolution(n: int, kernel: Tensor, *, skip: bool) -> Tensor:
    """The (n, n) Toeplitz matrix of y_i = sum_j k_(i - j + floor(k / 2)) x_j, zero outside; `skip`: without tap 0,
    which is the one of the largest j."""
    i = torch.arange(n)
    tap = i[:, None] - i + len(kernel) // 2
    inside = (tap >= int(skip)) & (tap < len(kernel))
    return torch.where(inside, kernel.double()[tap.clamp(0, len(kernel) - 1)], 0.0)


def _bicubic(n: int, r: int) -> Tensor:
    """The (n / r, n) matrix of antialiased bicubic reduction with mirrored borders."""
    x = ((torch.arange(4 * r, dtype=torch.float64) - 2 * r + 0.5) / r).abs()
    inner, outer = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    taps = torch.where(x <= 1, inner, outer)
    centre = torch.arange(n // r)[:, None] * r + r / 2
    at = (torch.arange(4 * r) + centre - 2 * r).floor().long() % (2 * n)
    at = torch.minimum(at, 2 * n - 1 - at)
    return torch.zeros(n // r, n, dtype=torch.float64).scatter_add_(1, at, (taps / taps.sum()).expand(len(at), -1))
