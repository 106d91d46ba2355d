"""Weights by a formula, so that public code and ours can be given the same ones and only the outputs be kept."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn


def value(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers of order fan_in^-1/2 that depend on the name and the place alone."""
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    wave = torch.sin(numbers * (1.0 + zlib.crc32(name.encode()) % 9973 / 9973) + 0.3)
    fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 16
    return (wave / fan**0.5).reshape(shape)


def fill(module: nn.Module) -> nn.Module:
    """The module in float64 with such weights."""
    module.double()
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(value(name, tuple(p.shape)))
    return module


def signal(n: int, rate: float = 1.0) -> Tensor:
    """A sweep (1, 1, n)."""
    k = torch.arange(n, dtype=torch.float64)
    return (0.5 * torch.sin(0.05 * rate * k + 1e-4 * rate * k * k)).reshape(1, 1, n)
