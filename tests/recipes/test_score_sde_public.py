"""Score SDE's predictors, correctors, flow and likelihood against numbers of its public code (`public/README.md`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from public_codes import Given, kept, two_normals
from torch import Tensor

from sfumato import grids, sample
from sfumato.denoisers import MeanOnly
from sfumato.likelihood import bits_per_dim, log_prob_adaptive
from sfumato.processes import Gaussian, Geometric, LinearBeta, SubVP, Table
from sfumato.recipes.score_sde import Recipe
from sfumato.samplers import Ancestral, Sampler, SNRLangevin, sample_ode
from sfumato.samplers.sde import EulerMaruyama, ReverseDiffusion

DATA = kept(Path(__file__).parent / "public" / "score_sde.npz")
N = 12
VE, VP, SUB = Geometric(0.05, 20.0), LinearBeta(), SubVP()
TABLE = Table.from_betas(DATA["vp_betas"].tolist())


def ran(
    process: Gaussian, sampler: Sampler, times: tuple[float, ...], draws: Iterable[Tensor], rows: int = 2
) -> Tensor:
    x1 = DATA["x"][:rows] * (20.0 if process is VE else 1.0)
    D = MeanOnly(two_normals().denoiser(process))
    return sample(D, sampler, x1=x1, times=times, noise=Given(draws), denoise=process is VE)


def recipe(predictor: str, snr: float = 0.0, moves: int = 1) -> Recipe:
    return Recipe(sigma_min=0.05, sigma_max=20.0, predictor=predictor, snr=snr, moves=moves, steps=N)


@pytest.mark.parametrize(("name", "predictor"), [("ve_rd", "reverse-diffusion"), ("ve_anc", "ancestral")])
def test_predictors_of_ve(name: str, predictor: str) -> None:
    """Their step to sigma = 0 from the last level, without its noise, is our denoising."""
    ours = recipe(predictor)
    torch.testing.assert_close(ran(VE, ours.sampler(), ours.times(), DATA["z"]), DATA[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "process", "sampler"),
    [
        ("vp_em", VP, EulerMaruyama()),
        ("sub_em", SUB, EulerMaruyama()),
        ("vp_rd", TABLE, ReverseDiffusion()),
        ("vp_anc", TABLE, Recipe(kind="vp", predictor="ancestral", snr=0.0).sampler()),
    ],
)
def test_predictors_of_vp(name: str, process: Gaussian, sampler: Sampler) -> None:
    """Euler's N steps of 1 / N, their eps, and the table of their `discrete_betas`; the last step draws nothing."""
    assert isinstance(sampler, Ancestral) == (name == "vp_anc")
    torch.testing.assert_close(ran(process, sampler, grids.uniform(N), DATA["z"]), DATA[name], rtol=0, atol=1e-9)


def test_corrector_and_predictor() -> None:
    """Two moves before each prediction: the grid whose first time is there twice, and nothing drawn at that step."""
    ours = recipe("reverse-diffusion", 0.16, 2)
    draws = [torch.zeros(1, 2, 2, 2), *DATA["z"][:, :1]]
    got = ran(VE, ours.sampler(), (1.0, *ours.times()), draws, rows=1)
    torch.testing.assert_close(got, DATA["ve_rd_langevin"], rtol=0, atol=1e-9)


def test_their_norms_are_averaged_over_the_batch() -> None:
    """So that the first row moves when a second is there; ours does not."""
    alone, both = DATA["ve_rd_langevin"][0], DATA["ve_rd_langevin_batch"][0]
    assert (alone - both).abs().max() > 1e-3
    ours, draws = recipe("reverse-diffusion", 0.16, 2), [torch.zeros(2, 2, 2, 2), *DATA["z"]]
    got = ran(VE, ours.sampler(), (1.0, *ours.times()), draws)
    torch.testing.assert_close(got[0], alone, rtol=0, atol=1e-9)


def test_corrector_alone() -> None:
    """Two moves at each of the N levels under VE, no prediction between: there the last state keeps its noise."""
    D, x, draws = two_normals().denoiser(VE), 20.0 * DATA["x"][:1], Given(DATA["z"][:, :1])
    for t in grids.uniform(N - 1):
        x, _ = SNRLangevin(0.16, 2).step(D, x, t, t, None, draws)
    torch.testing.assert_close(x, DATA["ve_langevin"], rtol=0, atol=1e-9)


def test_the_correctors_alpha_under_vp() -> None:
    """e = 2 alpha_n (snr |z| / |score|)^2 there, alpha_n = 1 - beta_n; ours is without: snr sqrt(alpha_n) has it."""
    D, x, draws = two_normals().denoiser(TABLE), DATA["x"][:1], Given(DATA["z"][:, :1])
    for n in range(N, 0, -1):
        alpha = 1 - float(DATA["vp_betas"][n - 1])
        x, _ = SNRLangevin(0.16 * alpha**0.5).step(D, x, n / N, n / N, None, draws)
    torch.testing.assert_close(x, DATA["vp_langevin"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "process", "end"), [("ve", VE, 1e-5), ("vp", VP, 1e-3), ("sub", SUB, 1e-3)])
def test_flow(name: str, process: Gaussian, end: float) -> None:
    """RK45 of scipy at 1e-8 there, dopri5 of torchdiffeq here."""
    pytest.importorskip("torchdiffeq", reason="extra ode")
    x1 = DATA["x"] * (20.0 if process is VE else 1.0)
    got = sample_ode(two_normals().denoiser(process), x1, end=end, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got.x, DATA[f"{name}_ode"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "process"), [("ve", VE), ("vp", VP), ("sub", SUB)])
def test_likelihood(name: str, process: Gaussian) -> None:
    """Bits per dimension from t = 1e-5 with the same signs for the divergence; their offset 7 is our width 2 / 256."""
    pytest.importorskip("torchdiffeq", reason="extra ode")
    D = two_normals().denoiser(process)
    signs = Given([0.25 + 0.5 * DATA["sign"]])  # uniform numbers: below a half the sign is -1
    got = log_prob_adaptive(D, DATA["data"], noise=signs, rtol=1e-9, atol=1e-9).log_prob
    torch.testing.assert_close(bits_per_dim(got, 8), DATA[f"{name}_bpd"], rtol=0, atol=1e-6)
    encoded = sample_ode(D, DATA["data"], start=1e-5, end=1.0, rtol=1e-9, atol=1e-9).x
    torch.testing.assert_close(encoded, DATA[f"{name}_latent"], rtol=1e-6, atol=1e-6)
