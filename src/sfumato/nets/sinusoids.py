"""The sinusoids of a clock, as published networks have them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(
    clock: Tensor, channels: int, *, endpoint: bool = False, sine_first: bool = False, theta: float = 10000.0
) -> Tensor:
    """cos(t f_i), sin(t f_i) with f_i = theta^(-i / n), (B,) to (B, channels); n is half the channels.

    Args:
        endpoint: n is one less, so that the last frequency is 1 / theta itself.
        sine_first: the sines come first.

    Source: Vaswani et al. 2017 (1706.03762) section 3.5; Ho et al. 2020 (2006.11239), public code, for `endpoint`.
    """
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=clock.device) / (half - endpoint)
    angles = clock.float()[:, None] * torch.exp(-math.log(theta) * steps)
    parts = (angles.sin(), angles.cos()) if sine_first else (angles.cos(), angles.sin())
    return torch.cat(parts, 1)
