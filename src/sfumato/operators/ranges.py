"""Damage to the range of numbers: clipping, quantisation, unknown gain and veil. None of them is linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators.base import Operator, cast, own


@dataclass(frozen=True, eq=False)
class Clip(Operator):
    """y = clip(gain x, low, high): overexposed pictures (gain 2 on [-1, 1]) and, with gain 1, clipped sound.

    Source: the HDR task of RED-diff (2305.04391) and DAPS (2407.01521).
    """

    gain: float = 2.0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high or self.gain == 0.0:
            raise ValueError(f"low < high and a gain not 0 are needed, got {self.low}, {self.high}, {self.gain}.")

    def __call__(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(self.low, self.high)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def pinv(self, y: Tensor) -> Tensor:
        """y / gain, which is measured as y again."""
        return y / self.gain


@dataclass(frozen=True, eq=False)
class Quantize(Operator):
    """y = low + w (floor((x - low) / w) + 1/2), w = (high - low) / 2^bits: the middle of the bin.

    Numbers beyond the ends fall into the first and the last bin.

    Its derivative is 0 nearly everywhere; automatic differentiation gives that of the identity (ours), so that methods
    which need a gradient have one.

    Source: the task of PiGDM (openreview 9_gsMA8MRKQ), with middles for lower ends (ours: they measure as themselves).
    """

    bits: int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.bits < 1 or not self.low < self.high:
            raise ValueError(f"at least 1 bit and low < high are needed, got {self.bits}, {self.low}, {self.high}.")

    def __call__(self, x: Tensor) -> Tensor:
        width = (self.high - self.low) / 2**self.bits
        bins = ((x - self.low) / width).floor().clamp(0, 2**self.bits - 1)
        return x + (self.low + width * (bins + 0.5) - x).detach()

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def pinv(self, y: Tensor) -> Tensor:
        """The middles themselves."""
        return y


@dataclass(frozen=True, eq=False)
class Veil(Operator):
    """y = factor x + veil: low light (factor below 1), haze (factor the transmission, veil the airlight).

    Affine, not linear: where both are known, `Measurement` of y - veil through a linear operator serves every solver.

    Args:
        factor: a number, or a tensor that broadcasts to x.
        veil: broadcasts to x.

    Source: GDP (2304.01247).
    """

    factor: float | Tensor
    veil: Tensor

    @classmethod
    def haze(cls, transmission: float | Tensor, airlight: float | Tensor = 1.0) -> Veil:
        """y = T x + (1 - T) a: of the light of the scene the share T arrives, the rest is the light a of the air."""
        return cls(transmission, torch.as_tensor((1.0 - transmission) * airlight))

    @classmethod
    def low_light(cls, noise: Noise, like: Tensor) -> Veil:
        """Where GDP begins when both are unknown: f = 0.01 z, one number, and M ~ U(0, 1e-4) shaped as `like`.

        Source: the public code of GDP (2304.01247).
        """
        return cls(0.01 * noise.normal(torch.empty(1))[0], 1e-4 * noise.uniform(like))

    def of_rows(self, index: Sequence[int], y: Tensor) -> Veil:
        factor = own(self.factor, index, y) if isinstance(self.factor, torch.Tensor) else self.factor
        return Veil(factor, own(self.veil, index, y))

    def __call__(self, x: Tensor) -> Tensor:
        factor = cast(self.factor, x) if isinstance(self.factor, torch.Tensor) else self.factor
        return factor * x + cast(self.veil, x)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    @property
    def parameters(self) -> tuple[float | Tensor, Tensor]:
        return self.factor, self.veil

    def at(self, parameters: tuple[float | Tensor, Tensor]) -> Veil:
        """The operator with another (factor, veil); differentiable in both."""
        return Veil(*parameters)
