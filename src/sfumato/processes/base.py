"""The forward process: how data become noise, and what that says of the way back.

Time `t` runs from 0 (clean) to 1 (noise) and is the only clock. A time shared by the batch is a Python float, and its
coefficients are Python floats; a time per sample `(B,)`, or per frame `(B, F)`, is a tensor and takes the same
formulas through torch. `lib(t)` gives `math` or `torch`, whose function names agree.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Law

Time = float | Tensor
Coefficient: TypeAlias = Any  # a float for a float time, a tensor for a tensor time


def lib(t: Time) -> Any:
    """`math` for a float, `torch` for a tensor: their function names agree."""
    return torch if isinstance(t, Tensor) else math


def exact(t: Time) -> Time:
    """The time that coefficients are computed at: a tensor in float64, whatever precision it came in. They are cast on
    use, by `expand`. (A device without float64 keeps its own.)"""
    if isinstance(t, Tensor) and t.is_floating_point() and t.device.type != "mps":
        return t.double()
    return t


def expand(t: Time, x: Tensor) -> Coefficient:
    """A coefficient ready to multiply `x`: a float as it is; a tensor cast to x's dtype, padded right with ones."""
    if not isinstance(t, Tensor):
        return t
    return t.to(dtype=x.dtype, device=x.device).reshape(t.shape + (1,) * (x.ndim - t.ndim))


def ordered(late: Time, early: Time, why: str) -> None:
    """Raises a ValueError, with the reason, where `early` is later than `late`."""
    wrong = early > late
    if bool(wrong.any()) if isinstance(wrong, Tensor) else wrong:
        raise ValueError(f"times are the wrong way round: {why}, got {late} and {early} (0 is clean, 1 is noise).")


class Process(ABC):
    """A Markov chain from data to noise, known through its laws."""

    @abstractmethod
    def marginal(self, x0: Tensor, t: Time) -> Law:
        """Law of x_t given x_0, (B, *event)."""

    @abstractmethod
    def forward(self, xt: Tensor, t: Time, s: Time) -> Law:
        """Law of x_s given x_t for s >= t: one move towards noise."""

    @abstractmethod
    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Law:
        """Law of x_s given x_t for s <= t under an estimate of x_0: one move towards data."""

    @abstractmethod
    def prior(self, like: Tensor) -> Law:
        """Law of x_1, with the shape, dtype and device of `like`."""

    def bind(self, cond: Any) -> Process:
        """The process under a condition; itself, unless the condition enters it (anchors, bridges)."""
        return self
