"""A measurement: y = A x_0 + n, n ~ N(0, sigma^2 I)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators.base import Linear, Operator

if TYPE_CHECKING:
    from sfumato.codecs import Codec


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was seen, how, and how well.

    Args:
        operator: A.
        y: (B, *measured), in the range and unit of A's output.
        sigma: standard deviation of the noise in the unit of y, at least 0; stated, never guessed.

    Raises:
        ValueError: if sigma is negative, or y holds numbers that are not finite.
    """

    operator: Operator
    y: Tensor
    sigma: float

    def __post_init__(self) -> None:
        if not self.sigma >= 0.0:
            raise ValueError(
                f"sigma is the standard deviation of the noise in the unit of y, at least 0, got {self.sigma}."
            )
        if not bool(torch.isfinite(self.y).all()):
            raise ValueError("y holds NaN or infinite numbers: mark what is missing with a Mask, and put zeros there.")

    @classmethod
    def simulate(cls, operator: Operator, x0: Tensor, *, sigma: float, noise: Noise) -> Measurement:
        """A measurement of known data: A x_0 plus noise, which stays zero where a mask sees nothing."""
        clean = operator(x0)
        if sigma == 0.0:
            return cls(operator, clean, 0.0)
        n = noise.normal(clean)
        seen = getattr(operator, "seen", None)
        return cls(operator, clean + sigma * (n if seen is None else n * seen(clean)), float(sigma))

    def __len__(self) -> int:
        return self.y.shape[0]

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one x_0."""
        return tuple(self.operator.event(self.y))

    def residual(self, x: Tensor) -> Tensor:
        """y - A x."""
        return self.y - self.operator(x)

    def repeat(self, n: int) -> Measurement:
        """n samples of each y as rows, sample index slowest: row s B + b is sample s of y_b."""
        return replace(self, y=self.y.repeat(n, *[1] * (self.y.ndim - 1)))

    def to_model(self, codec: Codec) -> Measurement:
        """The same measurement of z = codec.encode(x_0).

        With x = scale z + shift and a linear A, y - A shift = scale A z + n: divided by `scale`, the operator and its
        abilities stay, sigma becomes sigma / |scale|. For any other codec the operator becomes A o decode, whose type
        says that it is no longer linear.
        """
        scale = codec.affine
        if scale is not None and isinstance(self.operator, Linear):
            zero = torch.zeros(1, *self.event, dtype=self.y.dtype, device=self.y.device)
            offset = self.operator(codec.decode(zero))
            return replace(self, y=(self.y - offset) / scale, sigma=self.sigma / abs(scale))
        from sfumato.operators.base import Function

        operator, shape = self.operator, tuple(codec.latent(self.event))
        return replace(self, operator=Function(lambda z: operator(codec.decode(z)), shape))
