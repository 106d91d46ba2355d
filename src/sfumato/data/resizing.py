"""Bicubic resizing as MATLAB's imresize does it, which the literature of super-resolution is measured by."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def resized(x: Tensor, size: tuple[int, ...], scale: float) -> Tensor:
    """x (..., h, w) brought to `size` (H, W), not held to a range.

    The kernel (a = -0.5) is widened where the picture shrinks; borders are mirrored with the edge repeated.

    Args:
        scale: of a pixel: size / (h, w), or that before it was rounded up (or the result was cropped).

    Source: the behaviour of MATLAB's imresize, "bicubic"; Keys 1981 (10.1109/TASSP.1981.1163711) eq. 15.
    """
    rows, columns = (_matrix(n, out, scale).to(x) for n, out in zip(x.shape[-2:], size, strict=True))
    return rows @ x @ columns.mT


def _matrix(n: int, out: int, scale: float) -> Tensor:
    """(out, n), float64."""
    shrink = min(scale, 1.0)
    taps = math.ceil(4.0 / shrink) + 2
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) / scale - 0.5
    left = (centre - 2.0 / shrink).floor()
    at = left[:, None] + torch.arange(taps, dtype=torch.float64)
    d = (shrink * (centre[:, None] - at)).abs()
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weights = torch.where(d <= 1, near, torch.where(d <= 2, far, 0.0))
    mirrored = at.long() % (2 * n)
    mirrored = torch.minimum(mirrored, 2 * n - 1 - mirrored)
    matrix = torch.zeros(out, n, dtype=torch.float64)
    return matrix.scatter_add_(1, mirrored, weights / weights.sum(1, keepdim=True))
