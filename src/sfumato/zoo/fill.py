"""What is missing of any one series, by a model of windows of series, without training."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.samplers import paths
from sfumato.zoo import defaults
from sfumato.zoo.model import Model


def fill(
    model: Model, values: Tensor, n: int, *, horizon: int = 0, steps: int = 20, seed: int = 0, batch: int = 256
) -> Tensor:
    """n fillings of series, (n, B, L + horizon), in their own unit: NaN drawn, what is known returned as it is.

    Each series is moved to the mean and divided by the standard deviation of what is known of it. One that is shorter
    than the model's window stands at its end.

    Args:
        model: of windows of one series, the shipped `series` or one like it.
        values: (B, L), NaN where missing; any unit.
        horizon: steps after the last that are drawn too.
        steps: calls of the network for one path.

    Raises:
        ValueError: if a series with its horizon is longer than a window, or nothing of it is known, or the model is one
            of something else.
    """
    event = model.event
    if len(event) != 2 or event[0] != 1 or event[1] is None:
        raise ValueError(f"this needs a model of windows of one series, events (1, L), got {event}.")
    B, L = values.shape
    window = int(event[1])
    if L + horizon > window:
        raise ValueError(
            f"{L} values and a horizon of {horizon} are longer than the model's window of {window}: give the last "
            f"{window - horizon} values, or train a model of longer windows."
        )
    x = torch.full((B, window), torch.nan, dtype=torch.float64, device=values.device)
    x[:, window - horizon - L : window - horizon] = values
    known = ~x.isnan()
    if not bool(known.any(1).all()):
        raise ValueError("nothing of a series is known: there is nothing to fill it from.")
    count = known.sum(1, keepdim=True)
    mean = x.nan_to_num(0.0).sum(1, keepdim=True) / count
    std = torch.where(known, x - mean, 0.0).square().sum(1, keepdim=True).div(count).sqrt()
    std = torch.where(std > 0.0, std, 1.0)
    z = torch.where(known, (x - mean) / std, 0.0)
    process = model.denoiser.process
    drawn = paths(
        model.denoiser,
        {"observed": z[:, None].float(), "mask": known[:, None].float()},
        n,
        times=defaults.times(process, steps),  # type: ignore[arg-type]
        sampler=defaults.sampler(),
        seed=seed,
        batch=batch,
    )[:, :, 0]
    return torch.where(known, x, mean + std * drawn.double())[:, :, window - horizon - L :]
