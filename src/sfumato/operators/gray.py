"""One channel from many: colour to grey, stereo to mono."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from sfumato.operators.base import Spectral, cast


@dataclass(frozen=True, eq=False)
class Gray(Spectral):
    """y = sum_c w_c x_c, (B, 1, ...) from (B, C, ...): the mean of the channels by default; A^+ y = w y / |w|^2.

    The basis of a pixel is the reflection that turns w into the first axis: s = (|w|, 0, ..., 0), coefficients
    (B, ..., C). DDRM (2201.11793) uses (0.3333, 0.3334, 0.3333) in its code; luma weights are another operator.

    Args:
        weights: one for each channel, not all 0.
    """

    weights: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)
    s: Tensor = field(init=False)
    _axis: Tensor = field(init=False)

    def __post_init__(self) -> None:
        w = torch.tensor(self.weights, dtype=torch.float64)
        if w.ndim != 1 or not bool(w.abs().sum() > 0):
            raise ValueError(f"one weight for each channel is needed, not all 0, got {self.weights}.")
        first = torch.zeros_like(w)
        first[0] = w.norm()
        v = w + first if w[0] >= 0 else w - first  # away from cancellation
        object.__setattr__(self, "_axis", v / v.norm())
        object.__setattr__(self, "s", first)

    @classmethod
    def luma(cls) -> Gray:
        """The luma of ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B."""
        return cls((0.299, 0.587, 0.114))

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (len(self.weights), *y.shape[2:])

    def __call__(self, x: Tensor) -> Tensor:
        self._check(x)
        return (self._weight(x) * x).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._weight(y) * y

    def ridge(self, y: Tensor, rho: float) -> Tensor:
        return self._weight(y) * (y / (sum(w * w for w in self.weights) + rho))

    def project(self, x: Tensor) -> Tensor:
        return self.pinv(self(x))

    def Vt(self, x: Tensor) -> Tensor:
        self._check(x)
        return self._reflected(x).movedim(1, -1)

    def V(self, z: Tensor) -> Tensor:
        return self._reflected(z.movedim(-1, 1))

    def Ut(self, y: Tensor) -> Tensor:
        return pad(y.movedim(1, -1), [0, len(self.weights) - 1])

    def U(self, z: Tensor) -> Tensor:
        return z[..., :1].movedim(-1, 1)

    def _check(self, x: Tensor) -> None:
        if x.shape[1] != len(self.weights):
            raise ValueError(
                f"Gray has {len(self.weights)} weights, the data {x.shape[1]} channels: give one for each."
            )

    def _weight(self, like: Tensor) -> Tensor:
        """The weights, shaped to multiply (B, C, ...)."""
        w = torch.tensor(self.weights, dtype=like.dtype, device=like.device)
        return w.reshape(-1, *[1] * (like.ndim - 2))

    def _reflected(self, x: Tensor) -> Tensor:
        """The reflection along `_axis` of every pixel of (B, C, ...), with the sign that makes the first axis w / |w|:
        no matrix product, whose inner size would be the handful of channels."""
        v = cast(self._axis, x).reshape(-1, *[1] * (x.ndim - 2))
        along = (v * x).sum(1, keepdim=True)
        sign = -1.0 if self.weights[0] >= 0 else 1.0
        return torch.addcmul(sign * x, v, along, value=-2.0 * sign)
