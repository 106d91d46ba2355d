"""Codecs: data space <-> model space. Nothing between the two ends of a pipeline knows about pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Codec(ABC):
    """A map from data (B, *event) to the space a denoiser was trained in, and back.

    Attributes:
        affine: the one factor of x = factor z + shift, or None: linear operators stay what they are under it.
    """

    affine: float | None = None

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """z of data x."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Data x of z."""

    def latent(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one z for data of this shape."""
        return event

    def sized(self, event: tuple[int, ...]) -> Codec:
        """The codec that decodes to data of this shape: itself, unless several shapes have codes of one shape."""
        return self

    def stages(self) -> tuple[Codec, ...]:
        """The codecs that it is made of, the outermost first: itself alone, unless it has one around it."""
        return (self,)

    def sparing(self) -> Codec:
        """The same numbers for less memory, where there is a way: itself, unless it holds a network."""
        return self


@dataclass(frozen=True)
class Affine(Codec):
    """x = scale z + shift. `Affine.unit()` is for pictures: x in [0, 1], z in [-1, 1]."""

    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def unit(cls) -> Affine:
        """Data in [0, 1], model space in [-1, 1]."""
        return cls(0.5, 0.5)

    @property
    def affine(self) -> float:  # type: ignore[override]
        return self.scale

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        return z * self.scale + self.shift
