"""How a model draws: rows in chunks, their conditions, steps counted over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Seeds
from sfumato.processes import Gaussian
from sfumato.samplers import Sampler, Times, trajectory

Progress = Callable[[int, int], None]  # (steps done, steps in all), over all chunks of the batch


class Ticker:
    """Counts steps over several trajectories for `progress`."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def over(self, steps: Iterator[Any]) -> Iterator[Any]:
        """`steps`, counted."""
        for step in steps:
            if step.index:
                self.done += 1
                if self.progress:
                    self.progress(self.done, self.total)
            yield step


def drawn(denoiser: Denoiser, sampler: Sampler, times: Times, like: Tensor, noise: Seeds, tick: Ticker) -> Tensor:
    """One draw of x_0 for each row of `like`, model space."""
    x1 = denoiser.process.prior(like).sample(noise)
    for last in tick.over(trajectory(denoiser, sampler, x1, times, noise)):
        pass
    with torch.no_grad():
        # Where sigma(0) > 0 the last small noise goes with one more call.
        process = denoiser.process
        noisy = isinstance(process, Gaussian) and process._level(0.0) > 0.0
        return denoiser(last.x, last.time).mean if noisy else last.x


def chunks_of(n: int, batch: int) -> list[range]:
    """0 .. n - 1 in runs of `batch`."""
    if batch < 1:
        raise ValueError(f"batch is at least 1, got {batch}.")
    return [range(start, min(start + batch, n)) for start in range(0, n, batch)]
