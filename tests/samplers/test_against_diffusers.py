"""The same inputs through diffusers 0.42.1's schedulers and our samplers.

`tests/data/diffusers_samplers.npz`, made by `make_diffusers.py`, holds a start, the noise of stochastic steps, the
levels and the ends of 20 steps over the linear table of 1000 levels, "trailing" spacing, with the exact denoiser of a
mixture of two isotropic normals. Its tables are float32, hence the tolerance. Known differences: its 3M is the
published form, without the factor 2, and the SDE form of its 3M has a sign wrong (below); its UniPC extrapolates over a
last step of any length, where ours is guarded, so that 19 steps of it are compared; its single step of order 3 takes
1/2 for the weight of its second stage, where DPM-Solver-3 and ours have the integral, and is not compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from public_codes import Given, kept

from sfumato import MixtureWorld, Noise, sample
from sfumato.denoisers import MeanOnly
from sfumato.processes import Table
from sfumato.samplers import DDIM, Ancestral, DPMpp2M, DPMpp2S, DPMpp3M, Sampler, UniPC

DATA = kept(Path(__file__).parents[1] / "data" / "diffusers_samplers.npz")


class Theirs(Sampler):
    """DPMpp3M(1, published=True) with their weight of the second divided difference: -1/2 for 1/2, so alpha_s D_2 less.

    They write (1 - e^{-k} - k) / k^2 - 1/2, k = 2 h, of D_2; the integral of e^{-k (1 - u)} k u^2 / 2 has + 1/2.
    """

    def step(self, denoiser: Any, xt: Any, t: Any, s: Any, memory: Any, noise: Noise) -> Any:
        xs, known = DPMpp3M(1.0, published=True).step(denoiser, xt, t, s, memory, noise)
        points = (known[0], *(memory or ()))
        if len(points) == 3 and s > 0:
            here, h = points[0][0], 0.5 * (denoiser.process.log_snr(s) - denoiser.process.log_snr(t))
            (a, A), (b, B), (c, C) = (((l - here) / h, D) for l, D in points)
            D_2 = ((A - B) / (a - b) - (B - C) / (b - c)) / (a - c)
            xs = xs - denoiser.process.alpha(s) * D_2
        return xs, known


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("ddim", DDIM()),
        ("ddpm", Ancestral()),
        ("dpmpp_1", DDIM()),
        ("dpmpp_2m", DPMpp2M()),
        ("dpmpp_3m", DPMpp3M(published=True)),
        ("sde_1", Ancestral()),
        ("sde_2", DPMpp2M(1.0)),
        ("sde_3", Theirs()),
        ("unipc_1", UniPC(1)),
        ("unipc_2_bh1", UniPC(2, "bh1")),
        ("unipc_2_bh2", UniPC(2)),
        ("unipc_3_bh1", UniPC(3, "bh1")),
        ("unipc_3_bh2", UniPC(3)),
    ],
)
def test_same_numbers_as_diffusers(name: str, sampler: Sampler) -> None:
    process: Any = Table(tuple(DATA["alpha_bars"].tolist()))  # 21 levels: the first of 1000, then 50, 100, .. 1000
    D = exact(process)
    levels = [*range(21, 1, -1), *([] if name.startswith("unipc") else [0])]
    noise = Given(DATA["ddpm_z"] if name == "ddpm" or name.startswith("sde") else [])
    out = sample(D, sampler, x1=DATA["x1"], times=tuple(n / 21 for n in levels), noise=noise)
    torch.testing.assert_close(out, DATA[name], rtol=1e-5, atol=1e-5)


def test_steps_of_two_calls() -> None:
    """Over every second of 19 levels that are even in log SNR."""
    process = Table(tuple(reversed(DATA["single_alpha_bars"].tolist())))
    times = tuple(n / 19 for n in range(19, 0, -2))
    out = sample(exact(process), DPMpp2S(), x1=DATA["x1"], times=times, noise=Given([]))
    torch.testing.assert_close(out, DATA["single_2"], rtol=1e-5, atol=1e-5)


def exact(process: Any) -> Any:
    covs = torch.stack([0.1 * torch.eye(2).double(), 0.2 * torch.eye(2).double()])
    means = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=torch.float64)
    return MeanOnly(MixtureWorld(torch.tensor([0.4, 0.6]).double(), means, covs).denoiser(process))
