"""Divergence of a vector field: the exact trace of its Jacobian, or Hutchinson's estimate of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sfumato.noise import Noise


def rademacher(like: Tensor, noise: Noise, count: int = 1) -> list[Tensor]:
    """`count` vectors of independent signs, each shaped as `like`: E[w w^T] = I."""
    return [torch.where(noise.uniform(like) < 0.5, -1.0, 1.0).to(like) for _ in range(count)]


def with_divergence(
    field: Callable[[Tensor], Tensor], x: Tensor, vectors: Sequence[Tensor] | None = None, *, graph: bool = False
) -> tuple[Tensor, Tensor]:
    """(v, div v) at x: v (B, *event) and the divergence (B,) of each row.

    Args:
        vectors: w of Hutchinson's estimate, the mean of w^T J w; None: the exact trace, one product for each dimension.
        graph: keep what is needed to differentiate both, in training; otherwise both are detached.
    """
    with torch.enable_grad():
        x = x if graph and x.requires_grad else x.detach().requires_grad_()
        v = field(x)
        flat = v.flatten(1)
        if vectors is None:
            rows = [
                torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True, create_graph=graph)[0].flatten(1)[:, i]
                for i in range(flat.shape[1])
            ]
            total = torch.stack(rows).sum(0)
        else:
            products = [torch.autograd.grad(v, x, w, retain_graph=True, create_graph=graph)[0] * w for w in vectors]
            total = torch.stack(products).mean(0).flatten(1).sum(1)
    return (v, total) if graph else (v.detach(), total.detach())
