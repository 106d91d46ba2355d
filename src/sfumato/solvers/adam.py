"""Adam as a pure step, for methods that optimise: its moments travel in `memory`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Moments(NamedTuple):
    """Running means of the gradient and of its square, and how many gradients they hold."""

    first: Tensor
    second: Tensor
    steps: int


def adam(
    g: Tensor, moments: Moments | None, *, lr: float, betas: tuple[float, float] = (0.9, 0.999)
) -> tuple[Tensor, Moments]:
    """(what to subtract, moments): elementwise, so a row does not know its batch. Source: 1412.6980 algorithm 1."""
    first, second, n = moments if moments is not None else Moments(0.0 * g, 0.0 * g, 0)
    first = betas[0] * first + (1.0 - betas[0]) * g
    second = betas[1] * second + (1.0 - betas[1]) * g**2
    root = (second / (1.0 - betas[1] ** (n + 1))).sqrt() + 1e-8
    return lr / (1.0 - betas[0] ** (n + 1)) * first / root, Moments(first, second, n + 1)
