"""What a user gives as a condition, as the network's: one row for each item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.nets.text import TextEncoder, embedded


def encoder(denoiser: Denoiser) -> TextEncoder | None:
    """What reads a text for this denoiser; None if it knows none."""
    return getattr(denoiser, "text", None)


def prompts(denoiser: Denoiser, texts: Sequence[str], negative: str = "") -> dict[str, Tensor]:
    """The condition that texts are, a row for each.

    Raises:
        ValueError: for a denoiser that reads no text.
    """
    reader = encoder(denoiser)
    if reader is None:
        raise ValueError("this model reads no text: its condition is a label, or none.")
    with torch.no_grad():
        return embedded(reader, texts, negative)


def of(cond: Any, n: int, denoiser: Denoiser, classes: int) -> Any:
    """The condition with one row for each of n items; for a denoiser of text, that of the empty one where none is.

    Raises:
        ValueError: for a condition that the model does not know, or of another number of items.
    """
    reads = encoder(denoiser) is not None
    if cond is None and reads:
        cond = ""
    if cond is None or isinstance(cond, Mapping):
        return cond
    if isinstance(cond, str):
        return prompts(denoiser, [cond] * n)
    if isinstance(cond, list | tuple) and cond and all(isinstance(text, str) for text in cond):
        if len(cond) != n:
            raise ValueError(f"texts are one, or one for each of {n} items, got {len(cond)}.")
        return prompts(denoiser, cond)
    if not classes:
        can = "its condition is a text" if reads else "leave `cond` out"
        raise ValueError(f"this model has no classes: {can}.")
    label = torch.as_tensor(cond)
    if label.is_floating_point() or label.ndim > 1 or (label.ndim == 1 and len(label) != n):
        raise ValueError(f"labels are an integer, or one integer for each of {n} items, got {tuple(label.shape)}.")
    if n and not bool(((label >= 0) & (label < classes)).all()):
        raise ValueError(f"labels are between 0 and {classes - 1}, got {cond}.")
    return label.expand(n)


def rows(cond: Any, index: Sequence[int]) -> Any:
    """These rows of a condition."""
    chosen = list(index)
    return {k: v[chosen] for k, v in cond.items()} if isinstance(cond, Mapping) else cond[chosen]
