"""CDPMSR: a frozen regression before the denoiser, and a chain of means."""

from __future__ import annotations

import math

import pytest
import torch

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers.prepared import Prepared
from sfumato.nets import UNet
from sfumato.nets.regressor import Regressor
from sfumato.noise import Noise, Seeds
from sfumato.recipes.cdpmsr import Recipe
from sfumato.samplers import DDIM, Ancestral, sample
from sfumato.training import fit
from sfumato.training.regression import Regression
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,), "calls": 4}


def rough(recipe: Recipe) -> Prepared:
    torch.manual_seed(0)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.05 * torch.randn_like(p))
    assert isinstance(D, Prepared)
    return D.eval()


@pytest.mark.parametrize("steps", [1, 3, 40])
@pytest.mark.parametrize("v", [0.5, 0.02])
def test_the_chain_of_means_telescopes_to_the_regression(steps: int, v: float) -> None:
    """E[x_0 | x_1, y] at any number of steps (tower rule), whose variance is (alpha v / (alpha^2 v + sigma^2))^2."""
    recipe, e = Recipe(), 0.3
    process = recipe.process()
    world = sf.GaussianWorld(torch.tensor([e]).double(), torch.tensor([[v]]).double())
    x1 = Noise(0).normal(torch.empty(50, 1).double())
    x = sample(world.denoiser(process), recipe.sampler(), x1=x1, times=recipe.times(steps), noise=Noise(1))
    a, s2 = process.alpha(1.0), process.sigma(1.0) ** 2
    gain = a * v / (a * a * v + s2)
    assert torch.allclose(x, e + gain * (x1 - a * e), atol=1e-10)
    flow = sample(world.denoiser(process), DDIM(), x1=x1, times=recipe.times(1000), noise=Noise(1))
    assert float(flow.std() / x1.std()) == pytest.approx(math.sqrt(v), rel=0.05)  # DDIM keeps the variance
    assert float(x.std()) < 0.02 * float(flow.std())


def test_nothing_is_drawn_and_two_runs_from_one_start_are_equal() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.guide(rough(recipe)).given({"image": torch.rand(2, 1, 8, 8)})
    x1 = Noise(0).normal(torch.empty(2, 1, 8, 8))
    a, b = (sample(D, recipe.sampler(), x1=x1, times=recipe.times(), noise=Noise(seed)) for seed in (1, 2))
    assert torch.equal(a, b)
    noisy = sample(D, Ancestral(), x1=x1, times=recipe.times(), noise=Noise(1))
    assert not torch.equal(a, noisy)


def test_a_step_is_the_paper_s_without_its_noise() -> None:
    """x_s = sqrt(a_s)(1 - a_ts) / (1 - a_t) D + sqrt(a_ts)(1 - a_s) / (1 - a_t) x_t, a = alpha^2 (2006.11239 eq. 7)."""
    process = Recipe().process()
    world = sf.GaussianWorld(torch.tensor([0.3]).double(), torch.tensor([[0.5]]).double())
    D, x = world.denoiser(process), torch.tensor([[0.7]]).double()
    t, s = 0.6, 0.4
    got = sample(D, Recipe().sampler(), x1=x, times=(t, s), noise=Noise(0))
    a_t, a_s = process.alpha(t) ** 2, process.alpha(s) ** 2
    a_ts = a_t / a_s
    want = (math.sqrt(a_s) * (1 - a_ts) * D(x, t).mean + math.sqrt(a_ts) * (1 - a_s) * x) / (1 - a_t)
    assert torch.allclose(got, want, atol=1e-12)


def test_the_network_is_told_the_regression_and_it_runs_once_a_draw() -> None:
    model = Model(Affine.unit(), rough(Recipe(**SMALL)), {"recipe": "cdpmsr", "fields": SMALL, "event": [1, 8, 8]})
    D, calls, seen = model.denoiser, [], []
    D.first.register_forward_hook(lambda _, given, out: calls.append((given[0], out)))
    D.inner.net.register_forward_pre_hook(lambda _, given: seen.append(given[2]["image"]))
    y = torch.rand(2, 1, 8, 8)
    x = model.enhance(y, seed=1).samples[0]
    assert len(calls) == 1 and len(seen) == 4
    assert torch.equal(calls[0][0], 2 * y - 1) and all(torch.equal(each, calls[0][1]) for each in seen)
    assert not torch.equal(calls[0][1], calls[0][0])
    # the same as with the regression inside every call
    noise = Seeds.keyed(1, [(0, 0), (1, 0)])
    x1 = noise.normal(y)
    inside = sf.denoisers.Clipped(D).given({"image": 2 * y - 1})
    again = sample(inside, Recipe(**SMALL).sampler(), x1=x1, times=Recipe(**SMALL).times(), noise=noise)
    assert torch.allclose(x, again * 0.5 + 0.5, atol=1e-5)


def test_the_regression_is_trained_first_and_then_frozen() -> None:
    recipe = Recipe(**SMALL, first_steps=3)
    D = rough(recipe)
    objective = recipe.objective(D)
    x0, y = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)

    class Data:
        def __len__(self) -> int:
            return 4

        def batch(self, items: list[int], noise: Seeds) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return x0[items], {"image": y[items]}

    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    before = {name: p.clone() for name, p in D.named_parameters()}
    moved = []
    for _ in fit(objective, Data(), optimizer, steps=5, batch=4):
        moved.append({name.split(".")[0] for name, p in D.named_parameters() if not torch.equal(p, before[name])})
        before = {name: p.detach().clone() for name, p in D.named_parameters()}
    assert moved == [{"first"}] * 3 + [{"inner"}] * 2
    objective.advance(2)
    want = (D.first(y) - x0).square().flatten(1).mean(1)
    assert torch.allclose(objective(x0, {"image": y}, Noise(0)), want)


def test_the_loss_of_the_second_stage_is_that_of_the_noise() -> None:
    recipe = Recipe(**SMALL, first_steps=0)
    D = recipe.model()
    with torch.no_grad():
        for p in D.inner.parameters():
            p.zero_()
    x0 = torch.zeros(512, 1, 4, 4)
    with torch.no_grad():
        loss = recipe.objective(D)(x0, {"image": x0}, Noise(0))
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x0.numel()))


def test_estimates_are_held_to_the_range_and_without_a_condition_nothing_is_prepared() -> None:
    recipe = Recipe(**SMALL)
    whole, x = rough(recipe), torch.randn(1, 1, 4, 4)
    D = recipe.guide(whole)
    assert torch.equal(whole(x, 0.5).mean, whole.inner(x, 0.5).mean)
    assert D(torch.full((1, 1, 4, 4), 9.0), 0.01, {"image": torch.zeros(1, 1, 4, 4)}).mean.max() == 1.0


# The regression itself


def test_an_untrained_regression_is_the_picture_itself() -> None:
    y = torch.randn(2, 1, 8, 8)
    assert torch.equal(Regressor(UNet(1, (8,), 1))(y), y)


@pytest.mark.parametrize(("power", "want"), [(1, 1.0), (2, 3.0)])
def test_the_error_of_a_regression(power: int, want: float) -> None:
    """The mean of |e| or of e^2 over a picture, worked out by hand."""
    error = {1: [0.0, 0.0, -1.0, 3.0], 2: [1.0, -1.0, 1.0, 3.0]}[power]
    x0 = torch.zeros(2, 1, 2, 2)
    y = torch.tensor(error).reshape(1, 1, 2, 2).expand(2, -1, -1, -1)
    loss = Regression(torch.nn.Identity(), power)(x0, {"image": y}, Noise(0))
    assert loss.tolist() == [want, want]
    with pytest.raises(ValueError, match="1 or 2"):
        Regression(torch.nn.Identity(), 3)
