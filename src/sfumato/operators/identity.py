"""The identity: denoising."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfumato.operators.base import Spectral


@dataclass(frozen=True, eq=False)
class Identity(Spectral):
    """y = x + noise."""

    s: Tensor = field(default_factory=lambda: torch.ones(()))

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def Vt(self, x: Tensor) -> Tensor:
        return x

    def V(self, z: Tensor) -> Tensor:
        return z

    def Ut(self, y: Tensor) -> Tensor:
        return y

    def U(self, z: Tensor) -> Tensor:
        return z
