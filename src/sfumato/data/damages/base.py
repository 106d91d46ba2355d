"""What a damage is: a clean picture and a stream of noise to the damaged picture, and what else is known of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.noise import Noise

Range = tuple[float, float]  # a setting is drawn from it: both ends equal, and it is fixed


class Damage(ABC):
    """A clean picture (C, H, W) in [0, 1] to {"image": the damaged one, of the same size, rounded to 8 bits}.

    The result is a function of the picture and the stream. What is made over the whole picture (depth, masks,
    streaks) is made for the one that is given: damage first, crop afterwards.

    Attributes:
        turns: a picture may be turned by quarters before: there is no up and down in it.
    """

    turns: ClassVar[bool] = True

    @abstractmethod
    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        """The damaged picture under "image", not yet rounded, and what else is known, (1 or C, H, W) each."""

    def __call__(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        if x.ndim != 3 or x.shape[0] not in (1, 3):
            raise ValueError(f"a picture is (1 or 3, H, W), got {tuple(x.shape)}.")
        found = self.apply(x, noise)
        return {**found, "image": rounded(found["image"])}


def rounded(x: Tensor) -> Tensor:
    """Held to [0, 1] and rounded to 8 bits."""
    return (x.clamp(0.0, 1.0) * 255).round() / 255


def drawn(u: Tensor, between: Range, *, log: bool = False) -> float:
    """A setting between two ends, for u ~ U(0, 1); evenly in its logarithm with `log`."""
    low, high = between
    if low == high:  # exactly, and without rounding
        return low
    return low * (high / low) ** float(u) if log else low + (high - low) * float(u)


def uniforms(noise: Noise, count: int) -> Tensor:
    """(count,) numbers uniform on [0, 1), float64."""
    return noise.uniform(torch.empty(count, dtype=torch.float64))


def blurred(x: Tensor, std: float) -> Tensor:
    """x (..., H, W) convolved with a periodic Gaussian of this standard deviation in pixels."""
    h, w = x.shape[-2:]
    gains = [torch.exp(-2.0 * (math.pi * std * torch.fft.fftfreq(n, dtype=x.dtype)) ** 2) for n in (h, w)]
    half = gains[1][: w // 2 + 1]
    return torch.fft.irfft2(torch.fft.rfft2(x) * gains[0][:, None] * half, s=(h, w))


def field(shape: tuple[int, int], length: float, noise: Noise) -> Tensor:
    """A rough surface (H, W) of mean 0 and variance 1: white noise blurred by a periodic Gaussian of std `length`."""
    smooth = blurred(noise.normal(torch.empty(shape)), length)
    return (smooth - smooth.mean()) / smooth.std(correction=0).clamp(min=1e-12)
