"""Peak signal-to-noise ratio."""

from __future__ import annotations

from torch import Tensor

from sfumato.metrics.mse import mse


def psnr(x: Tensor, truth: Tensor, *, data_range: float = 1.0) -> Tensor:
    """10 log10(data_range^2 / mse) of each item in decibels, (B,); infinite where the two are equal.

    Args:
        x, truth: (B, *event), data space; all channels count as one signal, and nothing is clipped.
        data_range: largest value less smallest value that the data can take; 1 for pictures in [0, 1].
    """
    return 10.0 * (data_range**2 / mse(x, truth)).log10()
