"""Energy score: the CRPS of a vector."""

from __future__ import annotations

import torch
from torch import Tensor


def energy_score(samples: Tensor, truth: Tensor, *, fair: bool = False) -> Tensor:
    """E|X - y| - E|X - X'| / 2 with the Euclidean norm over each item's numbers, (B,); smaller is better.

    For items of one number it is the CRPS.

    Args:
        samples: (S, B, *event).
        truth: (B, *event).
        fair: average |X - X'| over pairs of different samples, so that the expected score is that of their law.

    Raises:
        ValueError: if the shapes do not fit, or `fair` is asked of one sample.

    Source: Gneiting and Raftery 2007 (10.1198/016214506000001437) eq. 22 with beta = 1.
    """
    count = len(samples)
    if samples.shape[1:] != truth.shape:
        raise ValueError(f"samples are (S, B, *event), got {tuple(samples.shape)} for a truth {tuple(truth.shape)}.")
    if fair and count < 2:
        raise ValueError("the fair energy score compares different samples: give at least 2.")
    x, y = samples.flatten(2).transpose(0, 1), truth.flatten(1).unsqueeze(1)
    error = torch.linalg.vector_norm(x - y, dim=2).mean(1)
    # By differences: through inner products, cdist would lose the digits of samples that lie close together.
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2))
    return error - 0.5 * apart / (count * (count - 1 if fair else count))
