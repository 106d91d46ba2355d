"""A block's work with a known answer, importable by the processes of every engine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sfumato.grids import uniform
from sfumato.noise import Seeds
from sfumato.processes import LinearBeta
from sfumato.samplers import DDIM, sample
from sfumato.worlds import GaussianWorld

torch.set_num_threads(1)


@dataclass(frozen=True)
class Draws:
    """Items of a Gaussian world; each load leaves a file of its process, each block one with the items' numbers."""

    log: Path
    pause: float = 0.0

    def __call__(self):
        (self.log / f"load-{os.getpid()}-{time.time_ns()}").touch()
        cov = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
        denoiser = GaussianWorld(torch.tensor([1.0, -1.0], dtype=torch.float64), cov).denoiser(LinearBeta())

        def block(items: range) -> dict[str, bytes]:
            (self.log / f"items-{items.start}-{items.stop}-{time.time_ns()}").touch()
            time.sleep(self.pause)
            noise = Seeds.keyed(3, items)
            x = sample(denoiser, DDIM(1.0), x1=noise.normal(torch.empty(len(items), 2, dtype=torch.float64)),
                       times=uniform(5), noise=noise)  # fmt: skip
            return {f"{i}.f64": row.numpy().tobytes() for i, row in zip(items, x, strict=True)}

        return block

    def loads(self) -> int:
        return len(list(self.log.glob("load-*")))

    def items(self) -> list[tuple[int, int]]:
        """The items of each block that was computed, sorted."""
        names = (path.name.split("-") for path in self.log.glob("items-*"))
        return sorted((int(first), int(stop)) for _, first, stop, _ in names)
