"""A check for a user's own operator: is the adjoint the adjoint?"""

from __future__ import annotations

import torch

from sfumato.noise import Noise
from sfumato.operators.base import Linear


def adjointness(operator: Linear, shape: tuple[int, ...], noise: Noise, *, dtype: torch.dtype = torch.float64) -> float:
    """Relative error of <A x, u> = <x, A^T u> on random x and u: rounding (1e-14 in float64) for a right adjoint.

    |<A x, u> - <x, A^T u>| / (|A x| |u|), inner products real and over the whole batch.

    Args:
        operator: any linear operator.
        shape: (B, *event).
        noise: where x and u are drawn from.

    Raises:
        ValueError: if A^T u has another shape than x.
    """
    x = noise.normal(torch.empty(shape, dtype=dtype))
    Ax = operator(x)
    u = noise.normal(Ax)
    back = operator.adjoint(u)
    if back.shape != x.shape:
        raise ValueError(f"the adjoint gives {tuple(back.shape)} for data of shape {tuple(x.shape)}.")
    gap = (Ax.conj() * u).real.sum() - (x * back).real.sum()
    return float(gap.abs() / (Ax.norm() * u.norm()).clamp(min=torch.finfo(dtype).tiny))
