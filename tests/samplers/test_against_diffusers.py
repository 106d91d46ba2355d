"""The same inputs through diffusers 0.42.1's schedulers and our samplers.

`tests/data/diffusers_samplers.npz` holds a start, the noise of DDPM's steps, the levels and the ends of 20 steps over
the linear table of 1000 levels, "trailing" spacing, with the exact denoiser of a mixture of two isotropic normals. Its
tables are float32, hence the tolerance. Known differences: its 3M is the published form, without the factor 2; its
UniPC extrapolates over a last step of any length, where ours is guarded, so that 19 steps of it are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato import MixtureWorld, Noise, sample
from sfumato.denoisers import MeanOnly
from sfumato.processes import Table
from sfumato.samplers import DDIM, Ancestral, DPMpp2M, DPMpp3M, Sampler, UniPC

DATA = np.load(Path(__file__).parents[1] / "data" / "diffusers_samplers.npz")


class Given(Noise):
    """Draws that were made elsewhere."""

    def __init__(self, draws: np.ndarray) -> None:
        self.draws = iter(torch.from_numpy(draws))

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return next(self.draws)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("ddim", DDIM()),
        ("ddpm", Ancestral()),
        ("dpmpp_1", DDIM()),
        ("dpmpp_2m", DPMpp2M()),
        ("dpmpp_3m", DPMpp3M(published=True)),
        ("unipc_1", UniPC(1)),
        ("unipc_2_bh1", UniPC(2, "bh1")),
        ("unipc_2_bh2", UniPC(2)),
        ("unipc_3_bh1", UniPC(3, "bh1")),
        ("unipc_3_bh2", UniPC(3)),
    ],
)
def test_same_numbers_as_diffusers(name: str, sampler: Sampler) -> None:
    process: Any = Table(tuple(DATA["alpha_bars"]))  # 21 levels: the first of 1000, then 50, 100, .. 1000
    covs = torch.stack([0.1 * torch.eye(2).double(), 0.2 * torch.eye(2).double()])
    means = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=torch.float64)
    D = MeanOnly(MixtureWorld(torch.tensor([0.4, 0.6]).double(), means, covs).denoiser(process))
    levels = [*range(21, 1, -1), *([] if name.startswith("unipc") else [0])]
    noise = Given(DATA["ddpm_z"]) if name == "ddpm" else Noise(0)
    out = sample(D, sampler, x1=torch.from_numpy(DATA["x1"]), times=tuple(n / 21 for n in levels), noise=noise)
    torch.testing.assert_close(out, torch.from_numpy(DATA[name]), rtol=1e-5, atol=1e-5)
