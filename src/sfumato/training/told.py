"""Conditions made anew for each item of training: filled, corrupted, improved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from sfumato.noise import Noise

Loss = TypeVar("Loss", bound=nn.Module)


def told(objective: Loss, prepare: Callable[[Any, Noise], Any]) -> Loss:
    """The objective itself, whose every call has `prepare(cond, noise)` in the place of `cond`; prepare draws first."""
    objective.register_forward_pre_hook(lambda _, given: (given[0], prepare(given[1], given[2]), given[2]))
    return objective
