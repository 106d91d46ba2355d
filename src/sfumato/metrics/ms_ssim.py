"""Structural similarity over several scales."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from sfumato.metrics.ssim import similarity

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(x: Tensor, truth: Tensor, *, data_range: float = 1.0, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Multi-scale structural similarity of each picture, (B,), at most 1.

    prod_j CS_j^w_j SSIM_M^w_M over M = 5 scales, each half of the one before by means of 2 x 2 pixels (an odd side is
    cut by one); CS is SSIM without its luminance term, of each channel's mean; the mean over channels comes last.
    A contrast below 0 counts as 0, since it has no such power (ours; public codes do the same).

    Args:
        x, truth: (B, C, H, W), data space; sides of at least 16 window, 176 by default: it must fit into the coarsest.
        data_range, window, sigma: of `ssim`.

    Raises:
        ValueError: if the shapes differ, or the pictures are too small.

    Source: Wang et al. 2003 (10.1109/ACSSC.2003.1292216) eq. 7 and section 3.2 for the weights.
    """
    least = window * 2 ** (len(WEIGHTS) - 1)
    if x.shape != truth.shape or x.ndim != 4 or min(x.shape[2:]) < least:
        raise ValueError(
            f"MS-SSIM compares two batches (B, C, H, W) of one shape with sides of at least {least}, "
            f"got {tuple(x.shape)} and {tuple(truth.shape)}."
        )
    product = x.new_ones(x.shape[:2])
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, truth = F.avg_pool2d(x, 2), F.avg_pool2d(truth, 2)
        whole, contrast = similarity(x, truth, data_range, window, sigma)
        alike = whole if scale == len(WEIGHTS) - 1 else contrast
        product = product * alike.mean((2, 3)).clamp(min=0.0) ** weight
    return product.mean(1)
