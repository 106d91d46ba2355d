"""Precision and recall, density and coverage: two sets of features by the balls around their items.

The ball of an item reaches to its k-th neighbour in its own set, itself not counted. A point that lies exactly on the
surface is inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.metrics.frechet import feature_sets

ROWS = 1024  # of distances held at once


class PrecisionRecall(NamedTuple):
    """precision: share of the samples inside some ball of the reference; recall: of the reference inside the samples'.

    The first falls where samples are not like the data, the second where data have no sample like them.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """density: in how many balls of the reference a sample lies, over k; coverage: share of balls with a sample inside.

    Density is 1 on average where the sets have one law (it may be larger), and one outlier of the reference with a
    huge ball hardly moves it; coverage is then 1 - (m - 1) ... (m - k) / ((m + n - 1) ... (m + n - k)) for m items of
    reference and n samples, 1 - 2^-k where both are many.
    """

    density: float
    coverage: float


def precision_recall(samples: Tensor, reference: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall of samples (n, d) against a reference (m, d).

    Compare figures of equal n, m and k only: balls shrink as sets grow.

    Raises:
        ValueError: if a set has no k-th neighbour, or the shapes do not fit.

    Source: Kynkaanniemi et al. 2019 (1904.06991) eq. 1 and 2, k = 3.
    """
    a, b = _sets(samples, reference, k)
    near_a, near_b = _radii(a, k), _radii(b, k)
    inside = [(gap <= near_b).any(1) for gap in _gaps(a, b)]
    covered = [(gap <= near_a).any(1) for gap in _gaps(b, a)]
    return PrecisionRecall(*(float(torch.cat(found).double().mean()) for found in (inside, covered)))


def density_coverage(samples: Tensor, reference: Tensor, *, k: int = 5) -> DensityCoverage:
    """Density and coverage of samples (n, d) against a reference (m, d), both by the balls of the reference.

    Raises:
        ValueError: if the reference has no k-th neighbour, or the shapes do not fit.

    Source: Naeem et al. 2020 (2002.09797) section 3, k = 5.
    """
    a, b = _sets(samples, reference, k)
    radii, count, hit = _radii(b, k), 0, torch.zeros(len(b), dtype=torch.bool, device=b.device)
    for gap in _gaps(a, b):
        inside = gap <= radii
        count += int(inside.sum())
        hit |= inside.any(0)
    return DensityCoverage(count / (k * len(a)), float(hit.double().mean()))


def _sets(a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
    a, b = feature_sets(a, b)
    if not 0 < k < min(len(a), len(b)):
        raise ValueError(f"neighbour k = {k} takes k from 1 and more than k items of each set, got {len(a)}, {len(b)}.")
    return a, b


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of each item to its k-th neighbour in the set, (n,)."""
    return torch.cat([gap.kthvalue(k + 1, 1).values for gap in _gaps(x, x)])


def _gaps(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Distances of the items of a to those of b, (rows, m) at a time.

    By differences, not inner products: an item is then at distance 0 of its own copy, and ties stay ties.
    """
    for rows in a.split(ROWS):
        yield torch.cdist(rows, b, compute_mode="donot_use_mm_for_euclid_dist")
