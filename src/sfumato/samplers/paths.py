"""Many samples of one window given what is known of it: futures, or fillings of its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Seeds
from sfumato.processes import Gaussian
from sfumato.samplers.base import Sampler, Times, sample


def paths(
    denoiser: Denoiser,
    cond: dict[str, Tensor],
    n: int,
    *,
    times: Times,
    sampler: Sampler,
    seed: int = 0,
    items: Sequence[object] | None = None,
    batch: int = 256,
) -> Tensor:
    """n samples of each window, (n, B, C, L), equal to `observed` where `mask` is 1.

    Sample k of item i is the same whatever n, B and `batch`: its stream is keyed by (seed, item, k). A denoiser that
    draws step after step (TimeGrad) has a method `draw`, which is then called; others draw a window whole.

    Args:
        cond: "observed" and "mask", (B, C, L), and what else the denoiser takes, each with a first axis of B.
        items: B names of the windows, their numbers by default.
        batch: rows that run together; memory is that of one batch.

    Raises:
        ValueError: for no path, an empty batch, or `items` of another length than the windows.
    """
    observed, mask = cond["observed"], cond["mask"]
    B = len(observed)
    items = range(B) if items is None else items
    if n < 1 or batch < 1 or len(items) != B:
        raise ValueError(f"{n} paths in batches of {batch} for {B} windows with {len(items)} names: all at least 1.")
    rows = [(k, i) for k in range(n) for i in range(B)]
    drawn = []
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        index = torch.tensor([i for _, i in part], device=observed.device)
        known = {key: value[index] for key, value in cond.items()}
        noise = Seeds.keyed(seed, ((items[i], k) for k, i in part))
        drawn.append(_draw(denoiser, known, times, sampler, noise))
    x = torch.cat(drawn).unflatten(0, (n, B))
    return torch.where(mask.bool(), observed.to(x), x)


@torch.no_grad()
def _draw(denoiser: Denoiser, cond: dict[str, Tensor], times: Times, sampler: Sampler, noise: Seeds) -> Tensor:
    """One sample for each row of the condition, (B, C, L)."""
    step_by_step: Any = getattr(denoiser, "draw", None)
    if step_by_step is not None:
        x: Tensor = step_by_step(cond, times, sampler, noise)
        return x
    given = denoiser.given(cond)
    assert isinstance(given.process, Gaussian)
    x1 = given.process.prior(torch.zeros_like(cond["observed"])).sample(noise)
    return sample(given, sampler, x1=x1, times=times, noise=noise)
