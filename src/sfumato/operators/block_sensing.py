"""Block-based compressed sensing."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from sfumato.noise import Noise
from sfumato.operators.base import Spectral, cast


@dataclass(frozen=True, eq=False)
class BlockSensing(Spectral):
    """m rows of one orthogonal matrix for every b x b block of images (B, C, H, W); y is (B, C, H / b, W / b, m).

    s = 1 on the first m of the b^2 coefficients of a block, so A^+ = A^T.

    Args:
        rows: (b^2, b^2), orthogonal: what is measured and, after it, its complement.
        m: how many of the rows are measured.

    Raises:
        ValueError: if `rows` is not an orthogonal matrix of b^2 rows, or m does not fit it.

    Source: DDNM (2212.00490), public code: blocks of 32 x 32, ratio 0.25.
    """

    rows: Tensor
    m: int
    s: Tensor = field(init=False)
    _single: Tensor = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.rows)
        if self.rows.shape != (n, n) or self._block**2 != n or not 1 <= self.m <= n:
            raise ValueError(
                f"a (b^2, b^2) matrix and 1 <= m <= b^2 are needed, got {tuple(self.rows.shape)} and m = {self.m}."
            )
        if (self.rows @ self.rows.T - torch.eye(n).to(self.rows)).abs().max() > 1e-4:
            raise ValueError("the rows are not orthonormal: take them from torch.linalg.qr.")
        # A million numbers or so: converting them in each call would cost as much as using them
        object.__setattr__(self, "_single", self.rows.float())
        object.__setattr__(self, "s", (torch.arange(n) < self.m).double())

    @classmethod
    def random(cls, noise: Noise, *, block: int = 32, ratio: float = 0.25) -> BlockSensing:
        """Rows of a random rotation (uniform over all): the share `ratio` of a block's numbers is measured."""
        Q, R = torch.linalg.qr(noise.normal(torch.empty(block**2, block**2, dtype=torch.float64)))
        return cls(Q * R.diagonal().sign(), round(ratio * block**2))

    @property
    def _block(self) -> int:
        return round(len(self.rows) ** 0.5)

    def _like(self, x: Tensor) -> Tensor:
        return cast(self.rows if x.dtype == torch.float64 else self._single, x)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (*y.shape[1:-3], y.shape[-3] * self._block, y.shape[-2] * self._block)

    def Vt(self, x: Tensor) -> Tensor:
        b = self._block
        if x.ndim < 3 or x.shape[-2] % b or x.shape[-1] % b:
            raise ValueError(
                f"BlockSensing takes images of multiples of {b} pixels, got {tuple(x.shape)}: crop or pad."
            )
        blocks = x.unflatten(-1, (-1, b)).unflatten(-3, (-1, b)).transpose(-3, -2)
        return blocks.flatten(-2) @ self._like(x).T

    def V(self, z: Tensor) -> Tensor:
        b = self._block
        blocks = (z @ self._like(z)).unflatten(-1, (b, b))
        return blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)

    def Ut(self, y: Tensor) -> Tensor:
        return pad(y, [0, len(self.rows) - self.m])

    def U(self, z: Tensor) -> Tensor:
        return z[..., : self.m]
