"""The size and shape that errors turned out to have: how they are scored, and what makes intervals of them (ours)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def normal_crps(z: Tensor, wanted: Tensor, s: Tensor) -> float:
    """Mean CRPS of errors s z under normal laws of mean 0, their spread s times the rms of z of the channel.

    Infinite where nothing is wanted: on scales of their own, channels of which nothing is known have no scale.
    """
    if not bool(wanted.any()):
        return math.inf
    gain = rms(z, wanted)[:, None]
    u = z / gain
    density, below = torch.exp(-0.5 * u**2) / math.sqrt(2 * math.pi), torch.special.ndtr(u)
    score = s * gain * (u * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return float(score[wanted].mean())


def rms(z: Tensor, wanted: Tensor) -> Tensor:
    """Root mean square of the errors of each channel, (C,), drawn towards that of all as by the errors of 8 windows."""
    square, count = (z**2 * wanted).sum((0, 2)), wanted.sum((0, 2)).double()
    own = 8.0 * float(count.sum()) / max(1, len(z)) / len(count)
    mean = square.sum() / count.sum().clamp(min=1)
    return ((square + own * mean) / (count + own)).sqrt().clamp(min=1e-3)


def calibrated(z: Tensor, wanted: Tensor, windows: int) -> tuple[Tensor, float]:
    """(gain (C,), tail b): gain sinh(b asinh e), e normal, has the quantiles of |z| at 50 % and 90 %, raised.

    Args:
        z: errors of the trials, (B, C, L).
        wanted: which count.
        windows: how many of them do not overlap, or nearly.
    """
    each = rms(z, wanted)
    size = (z.abs() / each[:, None])[wanted]
    levels = torch.tensor([0.5, 0.9], dtype=torch.float64) * (1 + 1 / windows)
    middle, outer = torch.quantile(size, levels.clamp(max=0.99)).clamp(min=1e-6).tolist()
    low, high = (math.asinh(v) for v in (0.6744897501960817, 1.6448536269514722))
    least, most = 0.3, 2.5
    for _ in range(40):
        b = 0.5 * (least + most)
        wide = math.sinh(b * high) / math.sinh(b * low) > outer / middle
        least, most = (least, b) if wide else (b, most)
    return each * outer / math.sinh(b * high), b
