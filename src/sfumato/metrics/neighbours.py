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
TIE = 1e-9  # by which a squared distance may exceed a radius and still touch it
ZERO = 1e-13  # of the squares of two items: a squared distance below is rounding


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


class Balls(NamedTuple):
    """precision, recall, density and coverage, (4,), and the same without each group, (G, 4)."""

    figures: Tensor
    left_out: Tensor


def precision_recall(samples: Tensor, reference: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall of samples (n, d) against a reference (m, d).

    Compare figures of equal n, m and k only: balls shrink as sets grow.

    Raises:
        ValueError: if a set has no k-th neighbour, or the shapes do not fit.

    Source: Kynkaanniemi et al. 2019 (1904.06991) eq. 1 and 2, k = 3.
    """
    return PrecisionRecall(*balls(samples, reference, ks=(k, k)).figures[:2].tolist())


def density_coverage(samples: Tensor, reference: Tensor, *, k: int = 5) -> DensityCoverage:
    """Density and coverage of samples (n, d) against a reference (m, d), both by the balls of the reference.

    Raises:
        ValueError: if a set has no k-th neighbour, or the shapes do not fit.

    Source: Naeem et al. 2020 (2002.09797) section 3, k = 5.
    """
    return DensityCoverage(*balls(samples, reference, ks=(k, k)).figures[2:].tolist())


def balls(
    samples: Tensor,
    reference: Tensor,
    *,
    ks: tuple[int, int] = (3, 5),
    groups: tuple[Tensor, Tensor] | None = None,
) -> Balls:
    """All four figures, distances being computed once, and again without each group, for `left_out_error`.

    Args:
        samples, reference: (n, d) and (m, d).
        ks: neighbours of precision and recall, and of density and coverage.
        groups: the group of each sample, (n,), and of each item of the reference, (m,), from 0; None: no groups.

    Raises:
        ValueError: if a set has no k-th neighbour, or the shapes do not fit.
    """
    a, b = feature_sets(samples, reference)
    if not 0 < min(ks) <= max(ks) < min(len(a), len(b)):
        raise ValueError(
            f"neighbour k takes k from 1 and more than k items of each set, got k = {ks} for {len(a)} and {len(b)}."
        )
    whole = (torch.zeros(len(a), dtype=torch.long), torch.zeros(len(b), dtype=torch.long))
    of_a, of_b = groups or whole
    count = 1 + (int(torch.cat([of_a, of_b]).max()) + 1 if groups else 0)
    kept_a, kept_b = (torch.stack([of != g - 1 for g in range(count)]).to(a.device) for of in (of_a, of_b))
    kept_a[0], kept_b[0] = True, True
    near_a, near_b = _radii(a, ks, kept_a), _radii(b, ks, kept_b)
    precise, density = a.new_zeros(count), a.new_zeros(count)
    recalled, covered = (torch.zeros(count, len(b), dtype=torch.bool, device=b.device) for _ in range(2))
    for start, gap in _gaps(a, b):
        rows = slice(start, start + len(gap))
        for g in range(count):
            chosen = kept_a[g, rows]
            inside = gap[chosen] <= near_b[g, 0]
            precise[g] += (inside & kept_b[g]).any(1).sum()
            recalled[g] |= (gap[chosen] <= near_a[g, 0, rows][chosen].unsqueeze(1)).any(0)
            inside = gap[chosen] <= near_b[g, 1]
            density[g] += (inside & kept_b[g]).sum()
            covered[g] |= inside.any(0)
    n, m = kept_a.double().sum(1), kept_b.double().sum(1)
    shares = [(hit & kept_b).sum(1) / m for hit in (recalled, covered)]
    found = torch.stack([precise / n, shares[0], density / (ks[1] * n), shares[1]], 1).cpu()
    return Balls(found[0], found[1:])


def _radii(x: Tensor, ks: tuple[int, int], kept: Tensor) -> Tensor:
    """Squared distance of each item to its neighbours k among the kept, (G, 2, n), a little more, so that ties count.

    Raises:
        ValueError: if a group leaves too few.
    """
    most = max(ks) + 1
    if int(kept.sum(1).min()) < most:
        raise ValueError(f"a group leaves fewer than {most} items: take more groups.")
    found = x.new_empty(len(kept), 2, len(x))
    for start, gap in _gaps(x, x):
        for g, mask in enumerate(kept):
            near = gap.masked_fill(~mask, torch.inf).topk(most, 1, largest=False).values
            found[g, :, start : start + len(gap)] = near[:, list(ks)].T
    return found * (1.0 + TIE)


def _gaps(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first row, squared distances (rows, m)), some rows at a time.

    By |x|^2 + |y|^2 - 2 x y, around the mean of b; what is left of two equal items by rounding counts as 0.
    """
    centre = b.mean(0)
    a, b = a - centre, b - centre
    of_b = b.square().sum(1)
    for start in range(0, len(a), ROWS):
        rows = a[start : start + ROWS]
        scale = rows.square().sum(1, keepdim=True) + of_b
        gap = scale - 2.0 * rows @ b.T
        yield start, gap.masked_fill_(gap <= ZERO * scale, 0.0)
