"""DiffGAR and synthesized pairs: what drawing a part of a picture again makes of it, in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data import damages
from sfumato.data.damages.redrawn import Redrawn
from sfumato.denoisers import Clipped, Counted, Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.processes import LinearBeta
from sfumato.recipes import diff_gar, restoration_pairs
from sfumato.samplers import DDIM, Ancestral, sample

PROCESS = LinearBeta()
S, M = 0.04, 0.2
IDENTITY = Affine(1.0, 0.0)


def prior(var: float = S, side: int = 64) -> Denoiser:
    """White pictures N(M, var)."""

    class White(Denoiser):
        process = PROCESS

        def forward(self, xt: torch.Tensor, t: Any, cond: Any = None) -> Estimate:
            assert cond is None
            a, s = PROCESS.alpha(t), PROCESS.sigma(t)
            gain = a * var / (a * a * var + s * s)
            return Estimate(M + gain * (xt - a * M), torch.full_like(xt, var * (1 - gain * a)))

    return White()


def ends(t: float) -> tuple[float, float]:
    return PROCESS.alpha(t), PROCESS.sigma(t)


@pytest.mark.parametrize("t", [0.1, 0.3, 0.6])
def test_the_flow_contracts_to_the_prior_s_mean(t: float) -> None:
    """N(M + G (x' - M), G^2 sigma^2 / alpha^2), G = S^(1/2) alpha (alpha^2 S + sigma^2)^(-1/2), along the flow."""
    x = torch.full((1, 80, 80), 0.9).double()
    y = Redrawn(prior(), (t, t), 400, DDIM(), codec=IDENTITY, even=True).apply(x, Noise(0))["image"]
    a, s = ends(t)
    G = math.sqrt(S) * a / math.sqrt(a * a * S + s * s)
    std = G * s / a
    assert float(y.mean()) == pytest.approx(M + G * (0.9 - M), abs=4 * std / 80 + 0.003)
    assert float(y.std()) == pytest.approx(std, rel=4 / math.sqrt(2 * 6400) + 0.02)


def test_the_contraction_is_monotone_and_goes_from_one_to_zero() -> None:
    x = torch.full((1, 80, 80), 0.9).double()
    gains = []
    for t in (0.001, 0.1, 0.2, 0.4, 0.7, 0.999):
        y = Redrawn(prior(), (t, t), 200, DDIM(), codec=IDENTITY, even=True).apply(x, Noise(0))["image"]
        gains.append((float(y.mean()) - M) / (0.9 - M))
    assert gains == sorted(gains, reverse=True) and gains[0] > 0.99 and abs(gains[-1]) < 0.02


@pytest.mark.parametrize("steps", [3, 40])
def test_the_chain_is_the_conditional_law(steps: int) -> None:
    """Ancestral with mean and variance, exact at any number of steps: N(M + G (x' - M), V), here G = alpha^2 S / (...),
    and V the variance of x_0 | x_t* twice over: that left by x_t*, and that of the noise that led there."""
    t, x = 0.3, torch.full((1, 100, 100), 0.9).double()
    y = Redrawn(prior(), (t, t), steps, Ancestral(), codec=IDENTITY, even=True).apply(x, Noise(0))["image"]
    a, s = ends(t)
    k = a * S / (a * a * S + s * s)
    var = S * (1 - k * a) + (k * s) ** 2
    assert float(y.mean()) == pytest.approx(M + k * a * (0.9 - M), abs=4 * math.sqrt(var) / 100)
    assert float(y.var()) == pytest.approx(var, rel=4 * math.sqrt(2) / 100)


def test_strength_zero_is_the_identity_and_one_has_forgotten_the_picture() -> None:
    x, other = (Noise(seed).uniform(torch.empty(3, 8, 8)) for seed in (1, 2))
    calls = Counted(prior())
    assert torch.equal(Redrawn(calls, (0.0, 0.0)).apply(x, Noise(0))["image"], x) and calls.calls == 0
    whole = Redrawn(prior(), (1.0, 1.0), 5)
    assert torch.equal(whole(x, Noise(0))["image"], whole(other, Noise(0))["image"])
    part = Redrawn(prior(), (0.5, 0.5), 5)
    assert not torch.equal(part(x, Noise(0))["image"], part(other, Noise(0))["image"])


def test_a_first_damage_comes_before_and_the_codec_between() -> None:
    x, seen = Noise(1).uniform(torch.empty(3, 8, 8)), []

    class Mean(Denoiser):
        process = PROCESS

        def forward(self, xt: torch.Tensor, t: Any, cond: Any = None) -> Estimate:
            seen.append((xt, t))
            return Estimate(torch.zeros_like(xt))

    y = Redrawn(Mean(), (1e-4, 1e-4), 20, DDIM(), damages.Grey()).apply(x, Noise(0))["image"]
    assert len(seen) == 1 and torch.all(y == 0.5)  # zeros of the model's space
    grey = damages.Grey().apply(x, Noise(0))["image"]
    assert torch.allclose(seen[0][0][0], 2 * grey - 1, atol=0.05) and seen[0][0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("t", "even", "calls"), [(0.5, False, 10), (0.5, True, 20), (0.01, False, 1), (1.0, False, 20)]
)
def test_steps_are_those_of_a_whole_run_or_of_every_one(t: float, even: bool, calls: int) -> None:
    counted = Counted(prior())
    Redrawn(counted, (t, t), 20, even=even).apply(torch.zeros(1, 4, 4), Noise(0))
    assert counted.calls == calls


# DiffGAR


def test_artifacts_are_of_random_strength_and_few_steps() -> None:
    recipe = diff_gar.Recipe()
    damage = recipe.damage(prior())
    assert damage.strength == (0.0, 0.5) and damage.steps == 6 and damage.even and damage.sampler == DDIM()
    for low, high in ((0.3, 0.3), (0.5, 0.2), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="0 <= low < high <= 1"):
            diff_gar.Recipe(low=low, high=high)


def test_pairs_are_the_clean_crop_and_what_the_generator_made_of_it() -> None:
    picture = (Noise(0).uniform(torch.empty(40, 40, 3)) * 255).byte().numpy()
    data = diff_gar.Recipe(channels=3, low=0.0, high=1e-6).pairs([picture], prior(), 16, variants=1)
    x0, cond = data.batch([0], Seeds([0]))
    assert x0.shape == (1, 3, 16, 16) and torch.allclose(x0, cond["image"], atol=0.05)
    strong = diff_gar.Recipe(low=0.9, high=1.0).pairs([picture], prior(), 16, variants=1).batch([0], Seeds([0]))
    assert (strong[0] - strong[1]["image"]).abs().mean() > 0.2


def test_a_restorer_of_artifacts_leaves_fewer_values_that_no_picture_has() -> None:
    """Pictures of -1 and 1 alone; a generator of three steps leaves values between them; exact p(x_0 | y) by pairs."""
    n = 3000
    process = diff_gar.Recipe().process()
    x = torch.where(Noise(0).uniform(torch.empty(1, n, 1).double()) < 0.5, -1.0, 1.0)

    class Signs(Denoiser):
        process = PROCESS

        def forward(self, xt: torch.Tensor, t: Any, cond: Any = None) -> Estimate:
            a, s = ends(t)
            return Estimate(0.7 * torch.tanh(a * xt / s**2))  # a weak one: its means fall short

    y = Redrawn(Signs(), (0.6, 0.6), 3, DDIM(), codec=IDENTITY, even=True).apply(x, Noise(1))["image"]
    slope = 2 * float((x * y).mean()) / float(y.var())

    class Restorer(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.process = process

        def forward(self, xt: torch.Tensor, t: Any, cond: Any = None) -> Estimate:
            a, s = process.alpha(t), process.sigma(t)
            return Estimate(torch.tanh(a * xt / s**2 + 0.5 * slope * cond["image"]))

    def strange(values: torch.Tensor) -> float:
        return float(((values.abs() - 1).abs() > 0.2).double().mean())

    recipe = diff_gar.Recipe()
    D = recipe.guide(Restorer()).given({"image": y})
    x0 = sample(D, recipe.sampler(), x1=Noise(2).normal(y), times=recipe.times(60), noise=Noise(3))
    assert strange(y) > 0.5 and strange(x0) < 0.02


# Synthesized pairs


def test_pairs_are_made_by_the_prior_from_the_rough_damage() -> None:
    recipe = restoration_pairs.Recipe(low=0.2, high=0.2)
    damage = recipe.damage(prior(), damages.parse("noise:15"), 50)
    assert isinstance(damage.denoiser, Clipped) and damage.strength == (0.2, 0.2) and damage.steps == 50
    assert damage.first == damages.parse("noise:15") and not damage.even
    assert recipe.damage(prior()).steps == 1000 and damage.sampler.reverse is recipe.reverse()
    picture = (Noise(0).uniform(torch.empty(40, 40, 3)) * 255).byte().numpy()
    data = recipe.pairs([picture], prior(), damages.Grey(), 16, steps=10, variants=1)
    x0, cond = data.batch([0], Seeds([0]))
    assert x0.shape == cond["image"].shape == (1, 3, 16, 16) and (x0 - cond["image"]).abs().mean() > 0.1
    again = data.batch([0], Seeds([0]))[1]["image"]
    assert torch.equal(again, cond["image"])


def test_the_prior_is_an_unconditional_chain() -> None:
    recipe = restoration_pairs.Recipe(channels=1, widths=(8,), attention=())
    D = recipe.model()
    assert sf.recipes.load("restoration-pairs").Recipe is restoration_pairs.Recipe
    assert not hasattr(recipe, "paired") and D.net.image == 0
    for low, high in ((-0.1, 0.2), (0.3, 0.2), (0.3, 1.2)):
        with pytest.raises(ValueError, match="0 <= low <= high <= 1"):
            restoration_pairs.Recipe(low=low, high=high)
