"""Lower resolution: average pooling, and the antialiased bicubic filter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from sfumato.operators.base import Spectral, cast
from sfumato.operators.separable import Separable


@dataclass(frozen=True, eq=False)
class Downsample(Spectral):
    """Means of blocks: r x r pixels of images (B, C, H, W), or r samples of signals (B, C, L) with `axes=1`.

    In the orthonormal DCT of a block the mean is the first coefficient alone: its singular value is r^(-axes / 2)
    (1 / r for images), the others are 0; so a direction's noise level sigma_y / s is r sigma_y. A^+ copies.

    Args:
        factor: r; divides every pooled axis.
        axes: how many trailing axes are pooled.

    Raises:
        ValueError: for a factor below 1, or for data that has too few axes or another size than multiples of r.
    """

    factor: int
    axes: int = 2
    s: Tensor = field(init=False)
    _basis: Tensor = field(init=False)

    def __post_init__(self) -> None:
        r, k = self.factor, self.axes
        if r < 1 or k < 1:
            raise ValueError(f"a factor and a number of axes of at least 1 are needed, got {r} and {k}.")
        grid = torch.arange(r, dtype=torch.float64)
        basis = torch.cos(math.pi / r * (grid + 0.5) * grid[:, None]) * math.sqrt(2 / r)
        basis[0] = math.sqrt(1 / r)
        s = torch.zeros([r, 1] * (k - 1) + [r], dtype=torch.float64)
        s.view(-1)[0] = r ** (-k / 2)
        object.__setattr__(self, "_basis", basis)
        object.__setattr__(self, "s", s)

    @staticmethod
    def bicubic(factor: int, size: tuple[int, ...]) -> Separable:
        """Bicubic reduction with antialiasing, for data of this size: `Separable.bicubic`."""
        return Separable.bicubic(factor, size)

    def event(self, y: Tensor) -> tuple[int, ...]:
        kept = y.ndim - self.axes
        return (*y.shape[1:kept], *(n * self.factor for n in y.shape[kept:]))

    def Vt(self, x: Tensor) -> Tensor:
        r, size = self.factor, tuple(x.shape[-self.axes :])
        if x.ndim < self.axes + 2 or any(n % r for n in size):
            raise ValueError(
                f"Downsample({r}, axes={self.axes}) takes (B, C, ...) with multiples of {r} along the last {self.axes} "
                f"axes, got {tuple(x.shape)}: crop or pad the data; signals (B, C, L) need axes=1."
            )
        for dim in range(-1, -2 * self.axes, -2):
            x = self._turn(x.unflatten(dim, (-1, r)), dim, inverse=False)
        return x

    def V(self, z: Tensor) -> Tensor:
        for k in range(self.axes):
            dim = -1 - 2 * (self.axes - 1 - k)
            z = self._turn(z, dim, inverse=True).flatten(dim - 1, dim)
        return z

    def Ut(self, y: Tensor) -> Tensor:
        for dim in range(-1, -2 * self.axes, -2):
            y = y.unsqueeze(dim)
        return pad(y, [0, self.factor - 1] + [0, 0, 0, self.factor - 1] * (self.axes - 1))

    def U(self, z: Tensor) -> Tensor:
        for dim in range(-1, -1 - self.axes, -1):
            z = z.select(dim, 0)
        return z

    def _turn(self, x: Tensor, dim: int, *, inverse: bool) -> Tensor:
        """The block basis, or its transpose, along one axis."""
        basis = cast(self._basis, x)
        return (x.transpose(dim, -1) @ (basis if inverse else basis.T)).transpose(dim, -1)
