"""Mean squared error."""

from __future__ import annotations

from torch import Tensor


def mse(x: Tensor, truth: Tensor) -> Tensor:
    """Mean of (x - truth)^2 over each item, (B,), in the unit of the data squared.

    Args:
        x, truth: (B, *event).

    Raises:
        ValueError: if the shapes differ: nothing is broadcast.
    """
    if x.shape != truth.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} but the truth {tuple(truth.shape)}: give both the same.")
    return (x - truth).flatten(1).pow(2).mean(1)
