"""Learning rates by the step: factors of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]
NAMES = ("decay", "constant", "cosine", "linear", "inverse-sqrt")


def warmup_decay(steps: int, *, warmup: int = 100, decay: float = 0.3) -> Schedule:
    """A factor of the learning rate: up over `warmup` steps, level, then down to 0 over the last `decay` of the run.

    A run may be prolonged before its decay begins: until then no step depends on `steps`.
    """
    tail = max(1, round(decay * steps))

    def factor(step: int) -> float:
        return min(1.0, step / max(1, warmup), (steps - step + 1) / tail)

    return factor


def inverse_sqrt(reference: int, *, warmup: int = 0) -> Schedule:
    """A factor of the learning rate: up over `warmup` steps, level to `reference`, then sqrt(reference / step).

    It never needs to know how long the run is. Source: Karras et al. 2024 (2312.02696) section 2.3 and public code.
    """

    def factor(step: int) -> float:
        return min(1.0, step / max(1, warmup)) / math.sqrt(max(1.0, step / reference))

    return factor


def cosine(steps: int, *, warmup: int = 100) -> Schedule:
    """Up over `warmup` steps, then (1 + cos(pi p)) / 2 with p from 0 to 1 over the rest of the run.

    Source: Loshchilov & Hutter 2017 (1608.03983) eq. 5, without restarts.
    """

    def factor(step: int) -> float:
        done = max(0, step - warmup) / max(1, steps - warmup)
        return min(1.0, step / max(1, warmup)) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))

    return factor


def named(name: str, steps: int, warmup: int = 100) -> Schedule:
    """The schedule of a name: "decay" (level, then linear over the last 30 %), "constant", "cosine", "linear" (down all
    the way), "inverse-sqrt" (level for a tenth of the run).

    Raises:
        ValueError: for another name.
    """
    if name not in NAMES:
        raise ValueError(f"the schedule of the learning rate is one of {', '.join(NAMES)}, got {name!r}.")
    made: dict[str, Callable[[], Schedule]] = {
        "decay": lambda: warmup_decay(steps, warmup=warmup),
        "constant": lambda: warmup_decay(steps, warmup=warmup, decay=0.0),
        "cosine": lambda: cosine(steps, warmup=warmup),
        "linear": lambda: warmup_decay(steps, warmup=warmup, decay=1.0),
        "inverse-sqrt": lambda: inverse_sqrt(max(1, steps // 10), warmup=warmup),
    }
    return made[name]()
