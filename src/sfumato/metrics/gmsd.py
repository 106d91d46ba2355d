"""Gradient magnitude similarity deviation: a perceptual distance without weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)


def gmsd(x: Tensor, truth: Tensor, *, data_range: float = 1.0) -> Tensor:
    """How unevenly the edges of two pictures agree, (B,): 0 where they agree as well everywhere; smaller is better.

    The standard deviation over pixels of (2 g_x g_y + c) / (g_x^2 + g_y^2 + c), g the gradient magnitude of the luma
    (Prewitt's operator) after averaging 2 x 2 pixels and keeping every second, c = 0.0026 data_range^2. It follows
    human scores closer than SSIM does, and is blind to a shift of brightness. No network: this is not LPIPS.

    Args:
        x, truth: (B, C, H, W), C 1 or 3, data space; sides of at least 6.
        data_range: largest value less smallest value that the data can take.

    Raises:
        ValueError: if the shapes differ or do not fit.

    Source: Xue et al. 2014 (1308.3052) eq. 1 to 6, c = 170 on [0, 255]; the divisor is the number of pixels.
    """
    if x.shape != truth.shape or x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < 6:
        raise ValueError(
            "GMSD compares two batches (B, 1 or 3, H, W) of one shape with sides of at least 6, "
            f"got {tuple(x.shape)} and {tuple(truth.shape)}."
        )
    c = 170.0 / 255.0**2 * data_range**2
    a, b = _gradient(x), _gradient(truth)
    return ((2.0 * a * b + c) / (a**2 + b**2 + c)).flatten(1).std(1, unbiased=False)


def _gradient(x: Tensor) -> Tensor:
    """Gradient magnitude of the luma at half the size, where Prewitt's operator fits, (B, 1, H', W')."""
    if x.shape[1] == 3:
        x = (x * x.new_tensor(_LUMA).reshape(3, 1, 1)).sum(1, keepdim=True)
    x = F.avg_pool2d(x, 2)
    ones, slope = x.new_ones(3) / 3.0, x.new_tensor((1.0, 0.0, -1.0))
    across, down = torch.outer(ones, slope), torch.outer(slope, ones)
    parts = F.conv2d(x, torch.stack((across, down)).unsqueeze(1))
    return parts.square().sum(1, keepdim=True).sqrt()
