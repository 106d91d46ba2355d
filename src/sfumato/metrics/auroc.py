"""Area under the ROC curve: how well one number tells two sets apart."""

from __future__ import annotations

import torch
from torch import Tensor


def auroc(inside: Tensor, outside: Tensor) -> float:
    """P(a > b) + P(a = b) / 2 for a of `inside`, (n,), and b of `outside`, (m,): 1 where the score is larger inside.

    Source: Hanley & McNeil 1982 (10.1148/radiology.143.1.7063747).
    """
    if inside.ndim != 1 or outside.ndim != 1 or min(len(inside), len(outside)) < 1:
        raise ValueError(f"scores are (n,) and (m,), at least one of each, got {inside.shape} and {outside.shape}.")
    a, b = inside.double().contiguous(), outside.double().sort().values
    below, upto = torch.searchsorted(b, a), torch.searchsorted(b, a, right=True)
    return float((below + upto).double().mean()) / (2 * len(b))
