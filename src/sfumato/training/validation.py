"""The loss on items that are not trained on, under the same draws each time, so that its curve is smooth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.noise import Seeds
from sfumato.processes import Gaussian
from sfumato.training.fit import Data

LEVELS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)  # log SNR


class HeldOut:
    """Held-out items and what they are measured by.

    Args:
        data: the items; a row of it is drawn (crops, flips) and noised by a stream keyed by (seed, row) alone.
        seed: of these draws.
        levels: of log SNR at which `by_level` looks; those beyond the ends of a process are left out.
        batch: rows that run together.
        most: rows that are looked at, at most.
        device: where the network is.
    """

    def __init__(
        self,
        data: Data,
        seed: int = 0,
        *,
        levels: Sequence[float] = LEVELS,
        batch: int = 32,
        most: int = 256,
        device: torch.device | str = "cpu",
    ) -> None:
        self.data, self.seed, self.levels, self.device = data, seed, tuple(levels), device
        self.batch, self.rows = batch, min(most, len(data))

    @torch.no_grad()
    def loss(self, objective: nn.Module) -> float:
        """The mean of the objective itself, with its own times and weights."""
        total = sum(float(objective(x0, cond, noise).sum()) for x0, cond, noise in self._batches("loss"))
        return total / self.rows

    @torch.no_grad()
    def by_level(self, objective: nn.Module) -> dict[str, float]:
        """mean (x_0 - D(x_t, t, cond))^2 at each level, by its log SNR as text; {} where there is no Gaussian process.

        For the exact denoiser it is the mean of the posterior variances at that level.
        """
        denoiser = getattr(objective, "denoiser", None)
        process = getattr(denoiser, "process", None)
        if denoiser is None or not isinstance(process, Gaussian):
            return {}
        low, high = process.log_snr(1.0), process.log_snr(0.0)
        return {f"{level:g}": self._at(denoiser, level) for level in self.levels if low < level < high}

    def _at(self, denoiser: Any, level: float) -> float:
        total = 0.0
        for x0, cond, noise in self._batches(("level", level)):
            cond = denoiser.prepare(cond)
            process = denoiser.process.bind(cond)
            t = float(process.time_of(level))
            xt = process.marginal(x0, t).sample(noise)
            total += float((x0 - denoiser(xt, t, cond).mean).flatten(1).square().mean(1).sum())
        return total / self.rows

    def _batches(self, key: object) -> Iterator[tuple[Tensor, Any, Seeds]]:
        """(x0, cond, noise): the same items and crops for every key, and draws of its own for the noise."""
        for first in range(0, self.rows, self.batch):
            rows = list(range(first, min(first + self.batch, self.rows)))
            x0, cond = self.data.batch(rows, Seeds.keyed(self.seed, (("held out", row) for row in rows)))
            noise = Seeds.keyed(self.seed, (("held out", key, row) for row in rows))
            yield x0.to(self.device), moved(cond, self.device), noise


def moved(cond: Any, device: torch.device | str) -> Any:
    """A condition on a device: None, a tensor, or a dict of tensors."""
    if cond is None:
        return None
    return cond.to(device) if isinstance(cond, Tensor) else {key: value.to(device) for key, value in cond.items()}
