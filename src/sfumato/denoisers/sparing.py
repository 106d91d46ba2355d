"""Less memory for more time: a denoiser in parts, whose gradients compute each part again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sfumato.denoisers.base import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Time


class Sparing(Wrapper):
    """`inner` on `rows` rows at a time. Where a gradient will be taken, nothing inside is kept: each part is computed
    once more on the way back, so that the activations of one part alone are alive at any time.

    The same numbers but for rounding, and the same gradients; a backward pass costs one call more. Inside `Windowed` a
    part is a window.

    Args:
        inner: a denoiser whose rows do not depend on each other.
        rows: that run together.
    """

    def __init__(self, inner: Denoiser, rows: int = 1) -> None:
        super().__init__(inner)
        if rows < 1:
            raise ValueError(f"at least 1 row at a time, got {rows}.")
        self.rows = rows

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        def call(x: Tensor, at: slice) -> Estimate:
            estimate: Estimate = self.inner(x, _part(t, at, len(xt)), _part(cond, at, len(xt)))
            return estimate

        parts = []
        for start in range(0, len(xt), self.rows):
            at = slice(start, start + self.rows)
            if torch.is_grad_enabled() and xt.requires_grad:
                parts.append(checkpoint(call, xt[at], at, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(call(xt[at], at))
        if len(parts) == 1:
            return parts[0]
        var = None if any(p.var is None for p in parts) else torch.cat([p.var for p in parts])
        aux = None if parts[0].aux is None else {k: torch.cat([p.aux[k] for p in parts]) for k in parts[0].aux}
        return Estimate(torch.cat([p.mean for p in parts]), var, aux)


def _part(value: Any, at: slice, batch: int) -> Any:
    """These rows of a time or a condition; whole where it has no row of its own for each of the batch."""
    if isinstance(value, Mapping):
        return {k: _part(v, at, batch) for k, v in value.items()}
    rows = isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch
    return value[at] if rows else value
