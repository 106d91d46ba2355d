"""What is missing of any series, by a model of windows of single series, without training."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.data.series import Chosen
from sfumato.samplers import paths
from sfumato.zoo import defaults
from sfumato.zoo.forecast import Forecast
from sfumato.zoo.model import Model
from sfumato.zoo.series_model import Progress
from sfumato.zoo.tables import record, through


def fill(
    model: Model, values: Tensor, n: int, *, horizon: int = 0, steps: int = 20, seed: int = 0, batch: int = 256
) -> Tensor:
    """n fillings of series, (n, B, L + horizon), in their own unit: NaN drawn, what is known returned as it is.

    Each series is moved to the mean and divided by the standard deviation of what is known of it. One that is shorter
    than the model's window stands at its end; a model of windows of any length, (1, None), takes it as it is.

    Args:
        model: of windows of one series, the shipped `series` or one like it.
        values: (B, L), NaN where missing; any unit.
        horizon: steps after the last that are drawn too.
        steps: calls of the network for one path.

    Raises:
        ValueError: if a series with its horizon is longer than a window, or nothing of it is known, or the model is one
            of something else.
    """
    _checked(model)
    B, L = values.shape
    window = int(model.event[1] or L + horizon)
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


def predict_with(
    model: Model, chosen: Chosen, *, samples: int, seed: int = 0, item: int = 0, progress: Progress | None = None
) -> Forecast:
    """A forecast or an imputation of what was chosen of a table, each channel by itself, by a model as it is.

    A forecast looks back as far as the model's window; gaps are filled in windows that overlap by half.

    Raises:
        ValueError: if the horizon leaves the window no past, or the rows are not evenly spaced.
    """
    _checked(model)
    ahead = chosen.ahead
    if not chosen.stamps.even:
        raise ValueError(f"the rows of {chosen.table.label} are not evenly spaced, as the model takes them: resample.")
    values, length = chosen.series.values, int(model.event[1] or model.config["size"])
    if ahead >= length:
        raise ValueError(f"a horizon of {ahead} leaves the model's window of {length} rows no past: ask for less.")
    rows = values.shape[1]
    x = values.expand(samples, -1, -1).clone()
    for c, row in enumerate(values):
        if progress:
            progress(c, len(values))
        key = seed + 1000 * (len(values) * item + c)
        if ahead:
            past = row[max(0, rows - length) : rows - ahead]
            x[:, c, rows - ahead :] = fill(model, past[None], samples, horizon=ahead, seed=key)[:, 0, -ahead:]
            continue

        def window(start: int, stop: int, row: Tensor = row, key: int = key) -> Tensor:
            return fill(model, row[None, start:stop], samples, seed=key + start)

        x[:, c : c + 1] = through(values[c : c + 1], min(length, rows), samples, window)
    return record(chosen, x.transpose(1, 2), {"steps": 0, "window": length, "network": str(model.config["recipe"])})


def _checked(model: Model) -> None:
    event = model.event
    if len(event) != 2 or event[0] != 1:
        raise ValueError(f"this needs a model of windows of one series, events (1, L), got {event}.")
