"""Parameters of an operator that are found on the way: a set for each row, which travels in the solver's memory."""

from __future__ import annotations

import torch
from torch import Tensor


def rows(parameter: float | Tensor, like: Tensor) -> Tensor:
    """A parameter that broadcasts to the state, with a row of its own for each sample."""
    p: Tensor = torch.as_tensor(parameter, dtype=like.dtype, device=like.device)
    p = p.reshape((1,) * (like.ndim - p.ndim) + tuple(p.shape))
    return p.expand(len(like), *p.shape[1:]).clone()


def unit_sum(kernel: Tensor) -> Tensor:
    """Each row's taps over their sum."""
    return kernel / kernel.flatten(1).sum(1).reshape(-1, *[1] * (kernel.ndim - 1))
