"""What comparisons with public codes share: the draws of the other side, the world that stood for its network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Table
from sfumato.worlds import MixtureWorld


class Given(Noise):
    """Draws that were made elsewhere, normal or uniform, in the order of the calls."""

    def __init__(self, draws: Iterable[Tensor]) -> None:
        self.draws = iter(draws)

    def normal(self, like: Tensor) -> Tensor:
        return next(self.draws).to(like).reshape(like.shape)

    uniform = normal


class Affine(Denoiser):
    """D of the noise predictor 0.3 x + 0.1, or 0.3 sin x + 0.1, on the usual table."""

    process = Table.linear()

    def __init__(self, bend: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.bend = bend or (lambda x: x)

    def forward(self, xt: Tensor, t: float, cond: object = None) -> Estimate:
        eps = 0.3 * self.bend(xt) + 0.1
        return Estimate((xt - self.process.sigma(t) * eps) / self.process.alpha(t))


def kept(path: Path) -> dict[str, Tensor]:
    """The arrays of an npz file as tensors."""
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file}


def two_normals() -> MixtureWorld:
    """0.4 N(m_1, 0.1 I) + 0.6 N(m_2, 0.2 I) over 2 x 2 x 2, m_1 from -1 to 0.5 and m_2 from 0.7 to -0.3 evenly."""
    means = torch.stack([torch.linspace(a, b, 8, dtype=torch.float64) for a, b in ((-1.0, 0.5), (0.7, -0.3))])
    covs = torch.stack([v * torch.eye(8, dtype=torch.float64) for v in (0.1, 0.2)])
    return MixtureWorld(torch.tensor([0.4, 0.6], dtype=torch.float64), means, covs, event=(2, 2, 2))
