"""Between numbers and levels: decoders that end a variational bound, dequantisation, bits per dimension.

A decoder is a function (law, x0) -> log p(x0), (B,) in nats, of a Normal and data in model space.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.laws import Normal
from sfumato.noise import Noise

Decoder = Callable[[Normal, Tensor], Tensor]


def density(law: Normal, x0: Tensor) -> Tensor:
    """The log density itself, for data that are real numbers."""
    return law.log_prob(x0)


def discretized(law: Normal, x0: Tensor, levels: int = 256) -> Tensor:
    """Log mass of the bin of width 2 / (levels - 1) around x0, for levels -1, ..., 1; the edge bins are open.

    The normal distribution function is exact; the papers' code has a tanh in its place.

    Raises:
        ValueError: for data outside [-1, 1], or a law that is a point.

    Source: Ho et al. 2020 (2006.11239) eq. 13.
    """
    half = 1.0 / (levels - 1)
    if bool((x0.abs() > 1.0 + half).any()):
        raise ValueError(f"the discretised decoder is for data in [-1, 1], got {float(x0.abs().max()):.4g}.")
    std = law._spread()
    upper, lower = (x0 + half - law.mean) / std, (x0 - half - law.mean) / std
    # Mirrored into the lower tail, where differences of the distribution function keep their digits.
    flip = upper + lower > 0
    high, low = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    top = torch.special.log_ndtr(high)
    middle = top + torch.log(-torch.expm1(torch.special.log_ndtr(low) - top))
    edge = torch.where(x0 < 0, torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower))
    return torch.where(x0.abs() > 1.0 - half, edge, middle).flatten(1).sum(1)


def categorical(law: Normal, x0: Tensor, levels: int = 256) -> Tensor:
    """Log of the density at x0's level divided by its sum over the levels 2 (k + 0.5) / levels - 1.

    Source: Kingma et al. 2021 (2107.00630) section 3.3, public code.
    """
    values = level_values(levels, x0)
    gap = (values - law.mean.unsqueeze(-1)) / law._spread().expand_as(x0).unsqueeze(-1)
    chosen = ((x0 + 1.0) * (levels / 2)).floor().clamp(0, levels - 1).long()
    logs = torch.log_softmax(-0.5 * gap**2, -1)
    return logs.gather(-1, chosen.unsqueeze(-1)).flatten(1).sum(1)


def level_values(levels: int, like: Tensor) -> Tensor:
    """The middles of `levels` equal bins of [-1, 1], (levels,): 2 (k + 0.5) / levels - 1."""
    return (2 * torch.arange(levels, dtype=like.dtype, device=like.device) + 1) / levels - 1


def dequantize(level: Tensor, noise: Noise, levels: int = 256) -> Tensor:
    """Integers 0 .. levels - 1 as numbers in [-1, 1): 2 (k + u) / levels - 1, u uniform, in torch's default dtype.

    The density of these, by `bits_per_dim` with its default width, bounds the mass of the integers: Theis et al. 2016
    (1511.01844) section 3.1.
    """
    k = level.to(torch.get_default_dtype())
    return 2 * (k + noise.uniform(k)) / levels - 1


def bits_per_dim(log_prob: Tensor, dims: int, *, width: float = 2 / 256) -> Tensor:
    """Bits per dimension of data that were `width` apart in model space and dequantised with uniform noise.

    -log p / (d log 2) - log2(width): an offset of 7 for 8-bit pictures in [-1, 1], of 8 in [0, 1] (width 1 / 256).
    """
    return -log_prob / (dims * math.log(2)) - math.log2(width)
