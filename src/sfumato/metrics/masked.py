"""Means over some of an item's numbers."""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of each item's values (B, *event) where `mask` is 1, or of all without one: (B,); NaN for an item with none.

    What stands where the mask is 0, NaN too, does not count.

    Raises:
        ValueError: if the mask has another shape.
    """
    if mask is None:
        return values.flatten(1).mean(1)
    if mask.shape != values.shape:
        raise ValueError(f"the mask is {tuple(mask.shape)}, the values {tuple(values.shape)}: one for each is needed.")
    kept = mask.bool()
    return values.masked_fill(~kept, 0.0).flatten(1).sum(1) / kept.flatten(1).sum(1)
