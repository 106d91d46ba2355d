"""The same inputs through diffusers 0.42.1's schedulers and our samplers.

`tests/data/diffusers_samplers.npz`, made by `make_diffusers.py`, holds a start, the noise of stochastic steps, the
levels and the ends of 20 steps over the linear table of 1000 levels, "trailing" spacing, with the exact denoiser of a
mixture of two isotropic normals. Its tables are float32, hence the tolerance. Known differences: its 3M is the
published form, without the factor 2, and the SDE form of its 3M has a sign wrong (below); its UniPC extrapolates over a
last step of any length, where ours is guarded, so that 19 steps of it are compared; the second stage of its step of
three calls is simpler than the paper's (below).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from public_codes import Given, kept

from sfumato import Estimate, MixtureWorld, Noise, sample
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


class Simpler(Sampler):
    """DPMpp3S whose second stage goes with D of the first alone, where the paper integrates the line through both."""

    def step(self, denoiser: Any, xt: Any, t: Any, s: Any, memory: Any, noise: Noise) -> Any:
        process = denoiser.process
        first, second = (process.time_of(process.log_snr(t) * (1 - r) + process.log_snr(s) * r) for r in (1 / 3, 2 / 3))
        x, _ = DDIM().step(denoiser, xt, t, first, None, noise)
        x = process.reverse(denoiser(x, first), xt, t, second, 0.0).mean
        h = 0.5 * (process.log_snr(s) - process.log_snr(t))
        # The line through D at 0 and at 2 / 3 of the step, weighed with e^{-h (1 - u)}.
        line = 1.5 * (1 / -math.expm1(-h) - 1 / h)
        D = denoiser(xt, t).mean.lerp(denoiser(x, second).mean, line)
        return process.reverse(Estimate(D), xt, t, s, 0.0).mean, memory


@pytest.mark.parametrize(("calls", "sampler"), [(2, DPMpp2S()), (3, Simpler())])
def test_steps_of_two_and_three_calls(calls: int, sampler: Sampler) -> None:
    """Over every second or third of 19 levels that are even in log SNR."""
    process = Table(tuple(reversed(DATA["single_alpha_bars"].tolist())))
    times = tuple(n / 19 for n in range(19, 0, -calls))
    out = sample(exact(process), sampler, x1=DATA["x1"], times=times, noise=Given([]))
    torch.testing.assert_close(out, DATA[f"single_{calls}"], rtol=1e-5, atol=1e-5)


def exact(process: Any) -> Any:
    covs = torch.stack([0.1 * torch.eye(2).double(), 0.2 * torch.eye(2).double()])
    means = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=torch.float64)
    return MeanOnly(MixtureWorld(torch.tensor([0.4, 0.6]).double(), means, covs).denoiser(process))
