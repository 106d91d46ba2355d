"""Kernel distance between two sets of features: the squared maximum mean discrepancy of a cubic kernel, unbiased."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.metrics.frechet import feature_sets
from sfumato.noise import Noise


class KernelDistance(NamedTuple):
    """The distance, its standard error over blocks (NaN for one block), and how many blocks there were."""

    value: float
    error: float
    blocks: int


def mmd(a: Tensor, b: Tensor, *, degree: int = 3) -> float:
    """Unbiased squared MMD under k(x, y) = (x^T y / d + 1)^degree, float64; below 0 where chance has it.

    sum_{i != j} k(a_i, a_j) / (n (n - 1)) + the same of b - 2 mean k(a_i, b_j): a pair of an item with itself counts
    in neither sum, which is what removes the bias.

    Args:
        a, b: (n, d) and (m, d), at least 2 of each.

    Source: Gretton et al. 2012 (JMLR 13) eq. 3; Binkowski et al. 2018 (1801.01401) section 4 for the kernel.
    """
    a, b = feature_sets(a, b)
    return _within(a, degree) + _within(b, degree) - 2.0 * float(_kernel(a, b, degree).mean())


def kernel_distance(a: Tensor, b: Tensor, *, noise: Noise, size: int = 1000, degree: int = 3) -> KernelDistance:
    """Mean of `mmd` over blocks of `size` items of each set, which no two blocks share, and its standard error.

    The blocks are the sets in a drawn order, cut; what is left over at the end is not used. Of Inception features it
    is KID up to the choice of blocks: the paper's code draws 100 overlapping ones, whose spread is not an error. Here
    they are apart, so that their mean has the standard error std / sqrt(blocks) (ours).

    Args:
        a, b: (n, d) and (m, d).
        noise: draws the order.
        size: of a block, as the paper; all that the smaller set has, if that is less.

    Source: Binkowski et al. 2018 (1801.01401) section 4; Zaremba et al. 2013 (1307.1954) section 3 for blocks apart.
    """
    a, b = feature_sets(a, b)
    fewest = min(len(a), len(b))
    size = min(size, fewest)
    if size < 2:
        raise ValueError(f"a block of the kernel distance has at least 2 items of each set, got {size}.")
    a, b = a[noise.permutation(len(a))], b[noise.permutation(len(b))]
    cuts = [slice(i * size, (i + 1) * size) for i in range(fewest // size)]
    values = torch.tensor([mmd(a[cut], b[cut], degree=degree) for cut in cuts], dtype=torch.float64)
    error = float(values.std()) / math.sqrt(len(cuts)) if len(cuts) > 1 else math.nan
    return KernelDistance(float(values.mean()), error, len(cuts))


def _kernel(a: Tensor, b: Tensor, degree: int) -> Tensor:
    return (a @ b.T / a.shape[1] + 1.0) ** degree


def _within(a: Tensor, degree: int) -> float:
    """Mean of the kernel over pairs of different items."""
    k = _kernel(a, a, degree)
    return float((k.sum() - k.trace()) / (len(a) * (len(a) - 1)))
