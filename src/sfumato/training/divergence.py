"""An early word on a loss that runs away, while there is still a good checkpoint."""

from __future__ import annotations

import os
import shutil
import statistics
from collections import deque
from pathlib import Path

BLOCK = 50  # losses whose median is one reading of where training stands
RECENT = 25


class Watch:
    """Compares the median of the last 25 losses with the lowest median of 50 in a row so far (ours).

    Far above is m + (factor - 1) max(|m|, q) for the lowest median m and the distance q between the quartiles around
    it: `factor` times m where losses are positive and steady.

    Args:
        factor: how many times the lowest median is a warning.
    """

    def __init__(self, factor: float = 4.0) -> None:
        self.factor, self.warned = factor, False
        self.lowest: tuple[float, float] | None = None  # median, distance between quartiles
        self._block: list[float] = []
        self._recent: deque[float] = deque(maxlen=RECENT)

    def __call__(self, loss: float) -> str | None:
        """A sentence when the losses have risen far above their lowest median; once for each rise."""
        self._recent.append(loss)
        self._block.append(loss)
        if len(self._block) == BLOCK:
            first, middle, third = statistics.quantiles(self._block, n=4)
            if self.lowest is None or middle < self.lowest[0]:
                self.lowest = (middle, third - first)
            self._block.clear()
        if self.lowest is None:
            return None
        median, spread = self.lowest
        now = statistics.median(self._recent)
        far = now > median + (self.factor - 1.0) * max(abs(median), spread)
        said, self.warned = self.warned, far
        if not far or said:
            return None
        return (
            f"the loss has risen to {now:.4g} (median of the last {len(self._recent)} steps) from {median:.4g} at its "
            "lowest: training seems to diverge. A lower learning rate or a longer warm-up helps."
        )


def keep(path: Path) -> Path | None:
    """A second name, NAME.good.SUFFIX, for a checkpoint, which the next one then does not replace; None without one."""
    if not path.exists():
        return None
    good = path.with_name(f"{path.stem}.good{path.suffix}")
    good.unlink(missing_ok=True)
    try:
        os.link(path, good)
    except OSError:  # a disk without links
        shutil.copyfile(path, good)
    return good
