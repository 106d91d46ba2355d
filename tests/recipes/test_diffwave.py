"""DiffWave: real steps between levels, the short list, and the variance that its chain comes out with."""

from __future__ import annotations

import math

import pytest
import torch
from basis import Basis

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import MeanOnly
from sfumato.noise import Noise
from sfumato.processes import Table
from sfumato.recipes.diffwave import Recipe
from sfumato.recipes.sounding import Sounding, step_of

SMALL = {"hertz": 8000, "hop": 64, "window": 256, "n_fft": 256, "mels": 8, "width": 4, "blocks": 3, "cycle": 2}


def variance(process: Table, times: tuple[float, ...], s2: float, start: float = 1.0) -> float:
    """Of what an exact denoiser of N(0, s2) makes of N(0, start)."""
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.tensor([[s2]]).double())
    noise = Basis()
    x1 = noise.start(math.sqrt(start))(len(times), noise)
    x = sf.sample(MeanOnly(world.denoiser(process)), Recipe().sampler(), x1=x1, times=times, noise=noise)
    return float(x.square().mean())


@pytest.mark.parametrize(
    ("s2", "steps", "start", "want"),
    [(1.0, 50, 1.0, 0.9447), (1.0, 6, 1.0, 0.5813), (0.04, 50, 1.0, 0.03286), (0.04, 6, 1.0, 0.01885),
     (0.04, 50, None, 0.03264)],
)  # fmt: skip
def test_the_variance_of_the_chain(s2: float, steps: int, start: float | None, want: float) -> None:
    """Figures of the scalar recursion, started at N(0, 1), and at the true law of the last level."""
    table = Recipe().table()
    if start is None:
        start = table.alpha(1.0) ** 2 * s2 + table.sigma(1.0) ** 2
    assert variance(table, Recipe().times(steps), s2, start) == pytest.approx(want, abs=5e-5 if want > 0.1 else 5e-6)


def test_real_steps_of_the_short_list() -> None:
    recipe = Recipe()
    found = [step_of(recipe.table(), t) for t in recipe.times(6)[-2::-1]]
    assert found == pytest.approx([0.0, 0.894, 4.087, 10.452, 22.992, 42.919], abs=5e-4)


def test_a_level_of_the_table_is_its_step_and_what_lies_outside_has_none() -> None:
    table = Recipe().table()
    t = torch.arange(1, 51, dtype=torch.float64) / 50
    assert torch.allclose(step_of(table, t), torch.arange(50.0).double(), atol=1e-9)
    alpha = 0.25 * table.alpha(7 / 50) + 0.75 * table.alpha(8 / 50)  # three quarters of the way in alpha
    between = table.time_of(2 * math.log(alpha) - math.log1p(-(alpha**2)))
    assert step_of(table, between) == pytest.approx(6.75, abs=1e-9)
    with pytest.raises(ValueError, match="take levels of training or between"):
        step_of(table, 0.01)
    shorter = Table(table.alpha_bars[:40])
    assert step_of(shorter, 1.0) == pytest.approx(39.0)


def test_a_level_noisier_than_training_has_no_step() -> None:
    """The network was trained on 40 levels, and is asked by a chain of 50."""

    class Longer(Table):
        def alpha(self, t: float) -> float:
            return Recipe().table().alpha(t)

    with pytest.raises(ValueError, match=r"down to 0\.\d+, and is asked for 0.5"):
        step_of(Longer(Recipe().table().alpha_bars[:40]), 1.0)


def test_the_short_list_has_levels_of_its_own() -> None:
    recipe = Recipe()
    bars, product = [], 1.0
    for eta in recipe.fast:
        product *= 1.0 - eta
        bars.append(product)
    times = recipe.times(6)
    assert [recipe.table().alpha(t) ** 2 for t in times[:-1]] == pytest.approx(bars[::-1], rel=1e-12)
    assert times[-1] == 0.0 and len(times) == 7
    for wrong in ((), (0.0,), (0.5, 1.0)):
        with pytest.raises(ValueError, match="betas lie in"):
            grids.free(recipe.table(), wrong)


def test_the_whole_list_is_ancestral_sampling() -> None:
    """The free list of all betas draws the sample of the table under one seed; other counts are levels of it."""
    recipe = Recipe(steps=20)
    betas = [1e-4 + (0.05 - 1e-4) * i / 19 for i in range(20)]
    world = sf.GaussianWorld(torch.zeros(3).double(), torch.eye(3).double() * 0.04).denoiser(recipe.table())
    x1 = torch.ones(2, 3).double()
    drawn = [
        sf.sample(world, recipe.sampler(), x1=x1, times=times, noise=Noise(0))
        for times in (grids.free(recipe.table(), betas), recipe.times())
    ]
    assert torch.allclose(*drawn, atol=1e-10)
    assert recipe.times(4) == (1.0, 0.75, 0.5, 0.25, 0.0) and len(recipe.times()) == 21


def test_the_chain_starts_at_a_unit_normal_or_at_the_law_of_silence() -> None:
    like = torch.zeros(1, 1, 4)
    assert Recipe().process().prior(like).std == 1.0
    law = Recipe(unit=False).process().prior(like)
    bar = math.prod(1.0 - (1e-4 + (0.05 - 1e-4) * i / 49) for i in range(50))
    assert float(law.std) == pytest.approx(math.sqrt(1.0 - bar)) and bar == pytest.approx(0.28, abs=0.005)
    assert float(Recipe().process().prior(like).mean.abs().max()) == 0.0


def test_untrained_it_says_no_noise_and_its_loss_is_that_of_the_noise() -> None:
    recipe = Recipe(**SMALL)
    D, x0 = recipe.model(), 0.1 * torch.randn(64, 1, 512, generator=torch.Generator().manual_seed(0))
    cond = recipe.told(x0)
    assert cond["mel"].shape == (64, 8, 8)
    t = 20 / 50
    assert torch.allclose(D(x0, t, cond).mean, x0 / recipe.table().alpha(t))
    with torch.no_grad():
        loss = recipe.objective(D)(x0, cond, Noise(0))
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x0.numel()))


def test_the_network_is_told_the_step_and_the_frames() -> None:
    recipe, seen = Recipe(**SMALL), {}
    D = recipe.model()

    class Told(torch.nn.Module):
        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: dict) -> torch.Tensor:
            seen.update(step=c_noise, mel=cond["mel"], u=u)
            return torch.ones_like(u)

    D.net = Told()
    x, mel = torch.randn(2, 1, 256), torch.randn(2, 8, 4)
    t = torch.tensor([1 / 50, 30 / 50])
    got = D(x, t, {"mel": mel}).mean
    assert seen["step"].tolist() == pytest.approx([0.0, 29.0], abs=1e-4) and torch.equal(seen["mel"], mel)
    assert torch.equal(seen["u"], x)
    a, s = (v.float().reshape(2, 1, 1) for v in (recipe.table().alpha(t.double()), recipe.table().sigma(t.double())))
    assert torch.allclose(got, (x - s) / a, atol=1e-4)
    t = recipe.objective(D).times(recipe.process(), 4000, Noise(0)) * 50
    assert torch.allclose(t, t.round()) and sorted({round(v) for v in t.tolist()}) == list(range(1, 51))


def test_estimates_are_held_to_the_range_unless_asked_otherwise() -> None:
    x, cond = torch.full((1, 1, 256), 9.0), {"mel": torch.zeros(1, 8, 4)}
    for clip, top in ((True, 1.0), (False, 9.0 / Recipe().table().alpha(0.02))):
        recipe = Recipe(**SMALL, clip=clip)
        assert float(recipe.guide(recipe.model())(x, 0.02, cond).mean.detach().max()) == pytest.approx(top)


def test_sounds_of_a_file() -> None:
    recipe = Recipe(**SMALL)
    y = torch.ones(1, 1, 100)
    assert recipe.received(y, 8000) is y and recipe.fitted(y) is recipe
    assert recipe.damaged(y, Noise(0)) is y
    with pytest.raises(ValueError, match="8000 samples a second, the sound has 16000"):
        recipe.received(y, 16000)
    padded = recipe.padded(y)
    assert padded.shape == (1, 1, 128) and float(padded.sum()) == 100.0 and recipe.padded(padded).shape == padded.shape
    with pytest.raises(NotImplementedError):
        Sounding().told(y)
