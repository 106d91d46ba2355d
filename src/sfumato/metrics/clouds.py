"""Sets of point clouds: Chamfer and earth mover's distances, and how one set stands to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]


def chamfer(x: Tensor, y: Tensor) -> Tensor:
    """mean_i min_j |x_i - y_j|^2 + mean_j min_i |x_i - y_j|^2 of clouds (B, 3, P) and (B, 3, Q), (B,).

    Source: Achlioptas et al. 2018 (1707.02392) eq. 2, with means, as in the public code of Luo & Hu (2103.01458).
    """
    square = _squares(x, y)
    return square.amin(2).mean(1) + square.amin(1).mean(1)


def earth_mover(x: Tensor, y: Tensor) -> Tensor:
    """min over permutations of mean_i |x_i - y_p(i)| of clouds (B, 3, P) both, (B,): exact, by assignment.

    Raises:
        ValueError: for clouds of different sizes.
        ImportError: without scipy.

    Source: Achlioptas et al. 2018 (1707.02392) eq. 1, with a mean.
    """
    if x.shape != y.shape:
        raise ValueError(f"an assignment needs clouds of one size, got {tuple(x.shape)} and {tuple(y.shape)}.")
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("the earth mover's distance needs scipy: pip install 'sfumato[baselines]'.") from error
    cost = _squares(x, y).sqrt()
    parts = [row[linear_sum_assignment(row.cpu().numpy())].mean() for row in cost]
    return torch.stack(parts)


class Standing(NamedTuple):
    """How a set of samples stands to a set of references.

    Attributes:
        mmd: mean over references of the distance to the nearest sample; smaller is better.
        coverage: share of the references that are the nearest one of some sample; larger is better.
        nearest: share of samples and references whose nearest other is of their own set; 0.5 is best.
    """

    mmd: float
    coverage: float
    nearest: float


def standing(samples: Tensor, references: Tensor, distance: Distance = chamfer) -> Standing:
    """MMD, COV and 1-NNA of clouds (S, 3, P) against (R, 3, P): bring both to one unit before.

    Source: Achlioptas et al. 2018 (1707.02392) section 2 for MMD and COV; Yang et al. 2019 (1906.12320) section 4.1 for
    1-NNA.
    """
    both = torch.cat([samples, references])
    table = torch.stack([distance(row.expand_as(both), both) for row in both])
    across = table[: len(samples), len(samples) :]
    table.fill_diagonal_(torch.inf)
    own = torch.arange(len(both)) < len(samples)
    return Standing(
        float(across.amin(0).mean()),
        len(across.argmin(1).unique()) / len(references),
        float((own[table.argmin(1).cpu()] == own).double().mean()),
    )


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, (B, P, Q), by differences: inner products lose the digits of points that lie close together."""
    return sum((x[:, axis, :, None] - y[:, axis, None, :]) ** 2 for axis in range(x.shape[1]))  # type: ignore[return-value]
