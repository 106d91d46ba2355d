"""Some of the items of a data set: the part that is trained on, and the part that is held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sfumato.noise import Seeds


class Subset:
    """The items of `source` with these numbers, in this order."""

    def __init__(self, source: Any, items: Sequence[int]) -> None:
        self.source, self.items = source, list(items)

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Any]:
        """(x0, cond) of these items."""
        found: tuple[Tensor, Any] = self.source.batch([self.items[item] for item in items], noise)
        return found


def split(source: Any, share: float, seed: int) -> tuple[Subset, Subset]:
    """(to train on, held out): round(share n) of n items held out, chosen by the seed, both in their own order.

    Raises:
        ValueError: if nothing would be left to train on, or the share is no share.
    """
    count = round(share * len(source))
    if not 0.0 <= share < 1.0 or count >= len(source):
        raise ValueError(f"of {len(source)} items the share {share} cannot be held out: some must be trained on.")
    order = Seeds.keyed(seed, ["held out"]).streams[0].permutation(len(source)).tolist()
    return Subset(source, sorted(order[count:])), Subset(source, sorted(order[:count]))
