"""Structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ssim(x: Tensor, truth: Tensor, *, data_range: float = 1.0, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity of each picture, (B,), at most 1.

    SSIM = (2 m_x m_y + C1) (2 c_xy + C2) / ((m_x^2 + m_y^2 + C1) (v_x + v_y + C2)), C_i = (K_i data_range)^2, K = 0.01
    and 0.03, with means, variances and covariance under a Gaussian window; averaged over the places where the window
    lies inside the picture, and over channels.

    Args:
        x, truth: (B, C, H, W), data space; H and W at least `window`.
        data_range: largest value less smallest value that the data can take.
        window, sigma: side and standard deviation of the Gaussian window, pixels.

    Raises:
        ValueError: if the shapes differ, or the window does not fit.

    Source: Wang et al. 2004 (10.1109/TIP.2003.819861) eq. 13 and section III-C.
    """
    if x.shape != truth.shape or x.ndim != 4 or min(x.shape[2:]) < window:
        raise ValueError(
            f"SSIM compares two batches (B, C, H, W) of one shape with sides of at least {window}, "
            f"got {tuple(x.shape)} and {tuple(truth.shape)}."
        )
    return similarity(x, truth, data_range, window, sigma)[0].flatten(1).mean(1)


def similarity(x: Tensor, truth: Tensor, data_range: float, window: int, sigma: float) -> tuple[Tensor, Tensor]:
    """(SSIM, its contrast and structure alone) where the window fits, (B, C, H - window + 1, W - window + 1) each."""
    place = torch.arange(window, dtype=x.dtype, device=x.device) - (window - 1) / 2
    kernel = torch.softmax(-(place**2) / (2 * sigma**2), 0)

    def blurred(v: Tensor) -> Tensor:
        planes = v.flatten(0, 1).unsqueeze(1)
        smooth = F.conv2d(F.conv2d(planes, kernel.reshape(1, 1, -1, 1)), kernel.reshape(1, 1, 1, -1))
        return smooth.squeeze(1).unflatten(0, v.shape[:2])

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = blurred(x), blurred(truth)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(truth * truth) - mean_y**2
    cov = blurred(x * truth) - mean_x * mean_y
    contrast = (2 * cov + c2) / (var_x + var_y + c2)
    return contrast * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1), contrast
