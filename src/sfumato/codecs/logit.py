"""Bounded data on the whole line: the logit, and the density that it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.codecs.base import Codec


@dataclass(frozen=True)
class Logit(Codec):
    """z = logit(margin + (1 - 2 margin) x), data x in [0, 1].

    log p(x) = log p(z) + log_det(x): without the second term bits per dimension of different margins cannot be
    compared. Source: Dinh et al. 2017 (1605.08803) section 4.1, with this margin; used by SDEFlow (Huang et al. 2021,
    2106.02808).

    Raises:
        ValueError: for a margin outside (0, 0.5), or, in `encode`, data outside [0, 1].
    """

    margin: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.margin < 0.5:
            raise ValueError(f"the margin lies between 0 and 0.5, got {self.margin}.")

    def encode(self, x: Tensor) -> Tensor:
        return torch.logit(self._inside(x))

    def decode(self, z: Tensor) -> Tensor:
        return (torch.sigmoid(z) - self.margin) / (1.0 - 2.0 * self.margin)

    def log_det(self, x: Tensor) -> Tensor:
        """log |dz / dx| of each row in nats, (B,)."""
        p = self._inside(x)
        return (math.log(1.0 - 2.0 * self.margin) - torch.log(p) - torch.log1p(-p)).flatten(1).sum(1)

    def _inside(self, x: Tensor) -> Tensor:
        if bool(((x < 0.0) | (x > 1.0)).any()):
            raise ValueError(f"the logit is for data in [0, 1], got {float(x.min()):.4g} to {float(x.max()):.4g}.")
        return self.margin + (1.0 - 2.0 * self.margin) * x
