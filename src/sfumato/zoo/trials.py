"""Trials: the past of tables as it might have been asked about, for `zoo.backtest` to choose by (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.data.series import Series

FOLDS, TRIED, MANY = 3, 36, 8


@dataclass(frozen=True, eq=False)
class Trial:
    """A window of the past as it might have been asked about.

    Attributes:
        series: up to its end.
        known: without what this trial and others at its place hide: the scale is that of what is known.
        hidden: (C, L).
        origin: row of the series before which its fold learns; -1 where a fold learns from other series.
        fold: its number.
    """

    series: Series
    known: Series
    hidden: Tensor
    origin: int
    fold: int


def trials(series: Sequence[Series], horizon: int, patterns: Tensor | None) -> list[Trial]:
    """At most `TRIED` trials, spread evenly over series and rows; none where the series are too short.

    Args:
        horizon: rows to forecast; 0 to fill gaps.
        patterns: what is given of windows that are asked about, (P, C, L).
    """
    span = horizon if patterns is None else patterns.shape[2]
    least = horizon + max(4, horizon // 2) if patterns is None else span
    many = len(series) >= MANY
    places = []
    for i, one in enumerate(series):
        first = max(least, len(one) // 2)
        places += [(i, end) for end in range(len(one), first - 1, -max(1, span // 2 if many else span // 8))]
    if many:
        places.sort(key=lambda place: (-place[1] // max(1, span), place[0]))
    else:
        places.sort(key=lambda place: (place[1], place[0]))
    step = max(1.0, len(places) / TRIED)
    kept = [places[int(k * step)] for k in range(int(len(places) / step))]
    found = []
    for k, (i, end) in enumerate(kept):
        one, fold = series[i].cut(0, end), k % FOLDS if many else FOLDS * k // len(kept)
        origin = -1 if many else max(2, kept[-(-fold * len(kept) // FOLDS)][1] - span)
        hidden = _hidden(one, horizon, patterns, k)
        hidden = [part for part in hidden if bool(part.any()) and not bool((part | one.values.isnan()).all())]
        if hidden:
            known = replace(one, values=torch.where(torch.stack(hidden).any(0), torch.nan, one.values))
            found += [Trial(one, known, part, origin, fold) for part in hidden]
    return found


def _hidden(one: Series, horizon: int, patterns: Tensor | None, k: int) -> list[Tensor]:
    """What the trials at the k-th place hide of its series, each (C, L): several where a pattern hides little."""
    known = ~one.values.isnan()
    hidden = torch.zeros_like(known)
    if patterns is None:
        hidden[:, -horizon:] = True
        return [hidden & known]
    pattern, L, found = ~patterns[k % len(patterns)], patterns.shape[2], []
    wanted = int(pattern.sum())
    # A table's own gaps hide nothing where they are: they are moved along until they do.
    turned = [pattern.roll(round(L * turn / 16) + k // len(patterns), 1) & known[:, -L:] for turn in range(16)]
    enough = [part for part in turned if 2 * int(part.sum()) >= wanted]
    for part in (enough or [max(turned, key=lambda part: int(part.sum()))])[: max(1, min(4, 8 // max(1, wanted)))]:
        hidden = torch.zeros_like(known)
        hidden[:, -L:] = part
        found.append(hidden)
    return found
