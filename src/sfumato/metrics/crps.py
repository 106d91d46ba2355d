"""Continuous ranked probability score."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.metrics.masked import masked_mean


def crps(samples: Tensor, truth: Tensor, mask: Tensor | None = None, *, fair: bool = False) -> Tensor:
    """CRPS of the samples, averaged over the numbers of each item, (B,), in the unit of the data; smaller is better.

    E|X - y| - E|X - X'| / 2, which is the integral of (F(u) - 1[u >= y])^2 for the empirical law F of S samples.

    Args:
        samples: (S, B, *event).
        truth: (B, *event).
        mask: (B, *event), 1 where a number counts; all without one.
        fair: average |X - X'| over pairs of different samples, S (S - 1) in number, so that the expected score is that
            of the law the samples come from, whatever S.

    Raises:
        ValueError: if the shapes do not fit, or `fair` is asked of one sample.

    Source: Gneiting and Raftery 2007 (10.1198/016214506000001437) eq. 21; Ferro 2014 (10.1002/qj.2270) for `fair`.
    """
    count = samples.shape[0]
    if samples.shape[1:] != truth.shape:
        raise ValueError(f"samples are (S, B, *event), got {tuple(samples.shape)} for a truth {tuple(truth.shape)}.")
    if fair and count < 2:
        raise ValueError("the fair CRPS compares different samples: give at least 2.")
    error = (samples - truth).abs().mean(0)
    # Over all ordered pairs, sum |x_i - x_j| = 2 sum_i (2 i - S + 1) x_(i) with x sorted and i from 0.
    rank = 2 * torch.arange(count, dtype=samples.dtype, device=samples.device) - (count - 1)
    spread = torch.tensordot(rank, samples.sort(0).values, dims=1) / (count * (count - 1 if fair else count))
    return masked_mean(error - spread, mask)
