"""Lower resolution: average pooling, and the antialiased bicubic filter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce

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
        axis = torch.cos(math.pi / r * (grid + 0.5) * grid[:, None]) * math.sqrt(2 / r)
        axis[0] = math.sqrt(1 / r)
        s = torch.zeros(r**k, dtype=torch.float64)
        s[0] = r ** (-k / 2)
        object.__setattr__(self, "_basis", reduce(torch.kron, [axis] * k))
        object.__setattr__(self, "s", s)

    @staticmethod
    def bicubic(factor: int, size: tuple[int, ...]) -> Separable:
        """Bicubic reduction with antialiasing, for data of this size: `Separable.bicubic`."""
        return Separable.bicubic(factor, size)

    def event(self, y: Tensor) -> tuple[int, ...]:
        kept = y.ndim - self.axes
        return (*y.shape[1:kept], *(n * self.factor for n in y.shape[kept:]))

    def __call__(self, x: Tensor) -> Tensor:
        return self._blocks(x).mean(-1)

    def ridge(self, y: Tensor, rho: float) -> Tensor:
        # every singular value that is not 0 is the same
        power = float(self.factor) ** -self.axes
        return self._copied(y if rho == 0.0 else power / (power + rho) * y)

    def project(self, x: Tensor) -> Tensor:
        return self._copied(self(x))

    def Vt(self, x: Tensor) -> Tensor:
        return self._blocks(x) @ cast(self._basis, x).T

    def V(self, z: Tensor) -> Tensor:
        return self._joined(z @ cast(self._basis, z))

    def Ut(self, y: Tensor) -> Tensor:
        return pad(y.unsqueeze(-1), [0, self.factor**self.axes - 1])

    def U(self, z: Tensor) -> Tensor:
        return z[..., 0]

    def _blocks(self, x: Tensor) -> Tensor:
        """The numbers of each block along a last axis, (*, n_1 / r, ..., r^axes)."""
        r, k = self.factor, self.axes
        size = tuple(x.shape[-k:])
        if x.ndim < k + 2 or any(n % r for n in size):
            raise ValueError(
                f"Downsample({r}, axes={k}) takes (B, C, ...) with multiples of {r} along the last {k} axes, got "
                f"{tuple(x.shape)}: crop or pad the data; signals (B, C, L) need axes=1."
            )
        kept = x.ndim - k
        x = x.reshape(*x.shape[:kept], *(n for m in size for n in (m // r, r)))
        inside = [kept + 2 * i + 1 for i in range(k)]
        return x.movedim(inside, list(range(-k, 0))).flatten(-k)

    def _joined(self, blocks: Tensor) -> Tensor:
        """The inverse of `_blocks`."""
        r, k = self.factor, self.axes
        x = blocks.unflatten(-1, [r] * k)
        kept = x.ndim - 2 * k
        x = x.movedim(list(range(-k, 0)), [kept + 2 * i + 1 for i in range(k)])
        return x.reshape(*x.shape[:kept], *(m * r for m in x.shape[kept::2]))

    def _copied(self, y: Tensor) -> Tensor:
        """Every number of y in all places of its block."""
        return self._joined(y.unsqueeze(-1).expand(*y.shape, self.factor**self.axes))
