"""Classifier guidance against numbers of the public code of ADM (`public/README.md`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from public_codes import Given, kept
from torch import Tensor, nn

from sfumato.denoisers import LearnedVariance, predict_eps
from sfumato.guides import ClassifierGuidance, GuidedAncestral
from sfumato.guides.adm import gradient
from sfumato.processes import Table
from sfumato.processes.variances import large, learned, small
from sfumato.samplers import DDIM

DATA = kept(Path(__file__).parent / "public" / "guided_diffusion.npz")
N, SCALE = 100, 2.5
TABLE = Table.linear(N, 1e-3, 0.2)  # 1e-4 and 0.02 times 1000 / N, as there
VARIANCES = {"FIXED_SMALL": small, "FIXED_LARGE": large, "LEARNED_RANGE": learned}


class Fixed(nn.Module):
    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        return DATA["F"]


DENOISER = LearnedVariance(Fixed(), TABLE, predict_eps)


def log_prob(xt: Tensor, t: Any, cond: Tensor) -> Tensor:
    n = N * t - 1
    logits = (1 + 0.01 * n) * torch.einsum("bcij,kcij->bk", torch.sin(xt), DATA["w"])
    return torch.log_softmax(logits, 1).gather(1, cond[:, None])[:, 0]


def times(spacing: str, index: int) -> tuple[float, float]:
    levels = [0, *(range(1, N + 1) if spacing == "all" else (DATA["spaced_kept"] + 1).tolist())]
    return levels[index + 1] / N, levels[index] / N


@pytest.mark.parametrize("spacing", ["all", "spaced"])
@pytest.mark.parametrize("index", [1, 6])
@pytest.mark.parametrize("variance", VARIANCES)
def test_condition_mean(spacing: str, index: int, variance: str) -> None:
    sampler = GuidedAncestral(log_prob, DATA["y"], SCALE, VARIANCES[variance])
    got, _ = sampler.step(DENOISER, DATA["x"], *times(spacing, index), None, Given([DATA["z"]]))
    torch.testing.assert_close(got, DATA[f"{spacing}_{variance}_{index}_sample"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("spacing", ["all", "spaced"])
@pytest.mark.parametrize("variance", VARIANCES)
def test_the_last_step(spacing: str, variance: str) -> None:
    """Ours is the mean, not moved. Theirs is moved by a variance, but for the small one, though it draws nothing."""
    t, s = times(spacing, 0)
    sampler = GuidedAncestral(log_prob, DATA["y"], SCALE, VARIANCES[variance])
    got, _ = sampler.step(DENOISER, DATA["x"], t, s, None, Given([]))
    key = f"{spacing}_{variance}_0_"
    torch.testing.assert_close(got, DATA[key + "free"], rtol=0, atol=1e-10)
    floor = TABLE.weights(*times(spacing, 1))[2] ** 2  # what stands for the variance there
    estimate = DENOISER(DATA["x"], t)
    theirs = {"FIXED_SMALL": 0.0, "FIXED_LARGE": floor}
    std = learned(TABLE, estimate, DATA["x"], t, s, floor).std
    moved = SCALE * theirs.get(variance, std**2) * gradient(log_prob, DATA["x"], t, DATA["y"])
    torch.testing.assert_close(got + moved, DATA[key + "mean"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("spacing", ["all", "spaced"])
@pytest.mark.parametrize("index", [0, 1, 6])
def test_condition_score(spacing: str, index: int) -> None:
    """The guided estimate, and the DDIM steps from it."""
    t, s = times(spacing, index)
    guided = ClassifierGuidance(DENOISER, log_prob, SCALE).given(DATA["y"])
    key = f"{spacing}_FIXED_SMALL_{index}_"
    torch.testing.assert_close(guided(DATA["x"], t).mean, DATA[key + "x0"], rtol=0, atol=1e-10)
    for eta in (0.0, 0.6):
        got, _ = DDIM(eta).step(guided, DATA["x"], t, s, None, Given([DATA["z"]]))
        torch.testing.assert_close(got, DATA[key + f"ddim{eta}"], rtol=0, atol=1e-10)
