"""Blurs that are not linear: of light, where the picture holds its gamma, and by a network that was taught to blur."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators.base import Operator, cast

TOE, KNEE, GAMMA, LIFT = 12.92, 0.04045, 2.4, 0.055  # of the curve of IEC 61966-2-1


@dataclass(frozen=True, eq=False)
class CameraBlur(Operator):
    """y = g(min(exposure A g^{-1}(x), 1)): the lens blurs light, the sensor clips it, the file holds the curve g of it.

    Of pictures with black 0 and white 1, g the curve of sRGB. A lamp in the dark so leaves a wide white streak, where
    a blur of the numbers in the file would leave a faint one. Below black the curve goes on straight, so that states of
    a sampler have a gradient everywhere but where the sensor is full.

    Args:
        blur: A, on light; a `Blur`, a `Convolution`, or any operator that keeps white white.
        exposure: above 1 highlights are lost.

    Source: Whyte et al. 2014 (10.1007/s11263-014-0727-3) eq. 5 for the clipped blur; IEC 61966-2-1 for the curve.
    """

    blur: Operator
    exposure: float = 1.0

    def __post_init__(self) -> None:
        if not self.exposure > 0.0:
            raise ValueError(f"an exposure is positive, got {self.exposure}.")

    def __call__(self, x: Tensor) -> Tensor:
        return encoded((self.exposure * self.blur(light(x))).clamp(max=1.0))

    def event(self, y: Tensor) -> tuple[int, ...]:
        return self.blur.event(y)

    def of_rows(self, index: Sequence[int], y: Tensor) -> CameraBlur:
        return replace(self, blur=self.blur.of_rows(index, y))

    @property
    def parameters(self) -> Tensor:
        """Those of the blur, its kernel."""
        found: Tensor = self.blur.parameters
        return found

    def at(self, parameters: Tensor) -> CameraBlur:
        """The operator with another kernel; differentiable in it."""
        return replace(self, blur=self.blur.at(parameters))


@dataclass(frozen=True, eq=False)
class NetworkBlur(Operator):
    """y = net(x, code), pictures of the size of x: a network that was trained to blur as real cameras do.

    The network is the user's own: the papers take one that encodes the kernels of GOPRO, with a code of 512 x 2 x 2
    numbers, on pictures in [0, 1]. The code is fixed with the operator; the public code of DPS draws a new one at every
    call, so that no picture fits its measurement.

    Args:
        net: (B, *event), (B, *code) to (B, *event); of values that it may leave beyond [0, 1], if `clip`.
        code: (1 or B, *code); one row for each y, or one for all.
        clip: whether the result is held to [0, 1], as the papers' is.

    Source: the nonlinear deblurring of DPS (2209.14687) and DAPS (2407.01521), after Tran et al. 2021 (2104.00317).
    """

    net: Callable[[Tensor, Tensor], Tensor]
    code: Tensor
    clip: bool = True

    @classmethod
    def drawn(
        cls,
        net: Callable[[Tensor, Tensor], Tensor],
        noise: Noise,
        size: Sequence[int] = (512, 2, 2),
        spread: float = 1.2,
    ) -> NetworkBlur:
        """A blur at random: a code of normal numbers, of the papers' size and spread."""
        return cls(net, spread * noise.normal(torch.empty(1, *size)))

    def __call__(self, x: Tensor) -> Tensor:
        y = self.net(x, cast(self.code, x).expand(len(x), *self.code.shape[1:]))
        return y.clamp(0.0, 1.0) if self.clip else y

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def of_rows(self, index: Sequence[int], y: Tensor) -> NetworkBlur:
        return self.at(self.code[list(index)] if len(self.code) > 1 else self.code)

    @property
    def parameters(self) -> Tensor:
        return self.code

    def at(self, parameters: Tensor) -> NetworkBlur:
        """The operator with another code; differentiable in it."""
        return replace(self, code=parameters)


def light(x: Tensor) -> Tensor:
    """The light of numbers of an sRGB file, black 0, white 1."""
    return torch.where(x > KNEE, ((x.clamp(min=KNEE) + LIFT) / (1.0 + LIFT)) ** GAMMA, x / TOE)


def encoded(light: Tensor) -> Tensor:
    """What an sRGB file holds of so much light."""
    knee = KNEE / TOE
    return torch.where(light > knee, (1.0 + LIFT) * light.clamp(min=knee) ** (1.0 / GAMMA) - LIFT, TOE * light)
