"""Mean absolute error, and the same over that of a naive forecast."""

from __future__ import annotations

from torch import Tensor

from sfumato.metrics.masked import masked_mean


def mae(x: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """mean |x - truth| over each item's numbers where `mask` is 1, (B,), in the unit of the data.

    The median of the samples is the answer that makes it least.

    Raises:
        ValueError: if the shapes differ: nothing is broadcast.
    """
    if x.shape != truth.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} but the truth {tuple(truth.shape)}: give both the same.")
    return masked_mean((x - truth).abs(), mask)


def mase(x: Tensor, truth: Tensor, past: Tensor, season: int = 1, mask: Tensor | None = None) -> Tensor:
    """MAE of a forecast over the MAE, in the past, of repeating what was `season` steps ago, (B,); below 1 is better.

    Args:
        x, truth: one series an item, (B, H).
        past: what the forecast was made from, (B, L); NaN where missing.
        season: steps in a season; 1 for the last value.
        mask: (B, H), 1 where a number counts.

    Raises:
        ValueError: if the past is no longer than a season, or repeats itself without error.

    Source: Hyndman and Koehler 2006 (10.1016/j.ijforecast.2006.03.001) section 3; with the seasonal naive forecast as
    in the M4 competition (10.1016/j.ijforecast.2019.04.014) section 2.5.
    """
    if not 0 < season < past.shape[-1]:
        raise ValueError(f"a season is at least 1 step and less than the past of {past.shape[-1]}, got {season}.")
    change = (past[:, season:] - past[:, :-season]).abs()
    scale = masked_mean(change, ~change.isnan())
    if not bool((scale > 0.0).all()):
        raise ValueError(f"a past that repeats itself every {season} steps has no scale for MASE: use MAE.")
    return mae(x, truth, mask) / scale
