"""Generative denoising: each noise begins at the picture, in the unit of pictures; the network sees the state alone."""

from __future__ import annotations

import math

import pytest
import torch

import sfumato as sf
from sfumato.noise import Noise, Seeds
from sfumato.processes import Observed, Photons, Speckle
from sfumato.recipes.dmid import Recipe
from sfumato.samplers import sample

F64 = {"dtype": torch.float64}
SMALL = {"channels": 1, "widths": (8,), "calls": 3}
KINDS = {"gaussian": (0.1, Observed), "poisson": (40.0, Photons), "gamma": (8.0, Speckle)}


@pytest.mark.parametrize("noise", KINDS)
def test_the_last_level_is_the_noise_of_the_picture(noise: str) -> None:
    """Of a picture of 0.6: variances level^2, 0.6 / level and 0.36 / level in the unit of pictures."""
    level, kind = KINDS[noise]
    process = Recipe(noise=noise, level=level).process()
    assert isinstance(process, kind)
    x = process.marginal(torch.full((50_000, 1), 0.2, **F64), 1.0).sample(Noise(0))
    want = {"gaussian": level**2, "poisson": 0.6 / level, "gamma": 0.36 / level}[noise]
    assert float(x.mean() + 1) / 2 == pytest.approx(0.6, abs=4 * math.sqrt(want / 50_000))
    assert float(x.var()) / 4 == pytest.approx(want, rel=0.05)
    y = torch.rand(2, 1, 4, 4)
    assert torch.equal(process.bind({"image": y}).prior(y).sample(Noise(0)), y)  # type: ignore[attr-defined]


@pytest.mark.parametrize("noise", KINDS)
def test_trained_and_drawn(noise: str) -> None:
    recipe = Recipe(**SMALL, noise=noise, level=KINDS[noise][0])
    D, x0 = recipe.model(), torch.rand(3, 1, 8, 8) * 2 - 1
    objective = recipe.objective(D)
    objective(x0, {"image": -x0}, Noise(0)).sum().backward()
    assert all(p.grad is not None for p in D.parameters())
    # Nothing of y enters the loss; an untrained network returns the state, so that the loss is t times the variance.
    with torch.no_grad():
        assert torch.equal(objective(x0, {"image": x0}, Noise(0)), objective(x0, {"image": -x0}, Noise(0)))
        still = recipe.model()
        x = torch.full((400, 1, 8, 8), 0.2)
        loss = recipe.objective(still)(x, {"image": x}, Noise(0))
    want = {"gaussian": 0.1**2, "poisson": 0.6 / 40, "gamma": 0.36 / 8}[noise]
    assert float(loss.mean()) == pytest.approx(4 * want / 2, rel=0.12)

    def draw(rows: slice) -> torch.Tensor:
        told, stream = D.given({"image": x0[rows]}), Seeds(range(3)[rows])
        x1 = told.process.prior(x0[rows]).sample(stream)  # type: ignore[attr-defined]
        return sample(told, recipe.sampler(), x1=x1, times=recipe.times(), noise=stream)

    whole = draw(slice(0, 3))
    assert torch.allclose(whole[1], draw(slice(1, 2))[0], atol=1e-5)
    assert len(recipe.times()) == 4 and recipe.times(2) == (1.0, 0.25, 0.0)


@pytest.mark.parametrize("steps", [5, 40])
def test_gaussian_draws_follow_the_card_s_step(steps: int) -> None:
    """x_u = r x_t + (1 - r) D + s_u sqrt(1 - r) n, r = s_u^2 / s_t^2, of N(e, v) given y = x_1."""
    recipe, v, e, y, n = Recipe(level=0.2, calls=steps), 0.09, -0.2, 0.5, 20_000
    s2 = 0.4**2
    mean, var = y, 0.0
    for i in range(steps, 0, -1):
        t, u = (i / steps) ** 2, ((i - 1) / steps) ** 2  # the standard deviation falls evenly
        r, g = u / t, v / (v + t * s2)
        mean = (r + (1 - r) * g) * mean + (1 - r) * (1 - g) * e
        var = (r + (1 - r) * g) ** 2 * var + u * s2 * (1 - r)
    process = recipe.process().bind({"image": torch.full((1, 1), y, **F64)})
    world = sf.GaussianWorld(torch.tensor([e], **F64), torch.tensor([[v]], **F64))
    D = sf.denoisers.MeanOnly(world.denoiser(process))
    x1 = process.prior(torch.zeros(n, 1, **F64)).sample(Noise(0))  # type: ignore[attr-defined]
    x = sample(D, recipe.sampler(), x1=x1, times=recipe.times(), noise=Noise(1))
    assert float(x.mean()) == pytest.approx(mean, abs=4 * math.sqrt(var / n))
    assert float(x.var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))
    right = v * s2 / (v + s2)
    assert var < right and abs(var / right - 1) < (0.11 if steps == 40 else 0.5)
    assert mean == pytest.approx(e + v / (v + s2) * (y - e), abs=1e-9)  # at any number of steps


def test_settings() -> None:
    with pytest.raises(ValueError, match="noise is 'gaussian', 'poisson' or 'gamma', got 'salt'"):
        Recipe(noise="salt")
    with pytest.raises(ValueError, match="level is above 0, got 0"):
        Recipe(level=0.0)
