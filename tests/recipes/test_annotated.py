"""The tutorial's schedules, its trap and its loss."""

import math

import pytest
import torch
from torch import nn

from sfumato import GaussianWorld, Noise, sample
from sfumato.denoisers import Preconditioned, predict_eps
from sfumato.recipes import annotated
from sfumato.recipes.annotated import Huber, Recipe
from sfumato.training import fit

N = 300


@pytest.mark.parametrize(
    ("schedule", "betas"),
    [
        ("linear", torch.linspace(1e-4, 0.02, N, dtype=torch.float64)),
        ("quadratic", torch.linspace(1e-4**0.5, 0.02**0.5, N, dtype=torch.float64) ** 2),
        ("sigmoid", torch.linspace(-6, 6, N, dtype=torch.float64).sigmoid() * (0.02 - 1e-4) + 1e-4),
    ],
)
def test_schedules_are_the_formulas(schedule: str, betas: torch.Tensor) -> None:
    process = Recipe(schedule=schedule).process()  # type: ignore[arg-type]
    bars = torch.cumprod(1 - betas, 0)
    for n in (1, 2, 150, 299, 300):
        assert process.alpha(n / N) ** 2 == pytest.approx(float(bars[n - 1]), rel=1e-9)


@pytest.mark.parametrize("steps", [300, 2000])
def test_cosine_is_that_of_improved_ddpm_with_the_tutorials_ends(steps: int) -> None:
    process = Recipe(schedule="cosine", steps=steps).process()
    line = torch.linspace(0, steps, steps + 1, dtype=torch.float64)
    bars = torch.cos((line / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - bars[1:] / bars[:-1]).clamp(1e-4, 0.9999)
    assert float(betas[-1]) == 0.9999
    assert (float(betas[0]) == 1e-4) == (steps == 2000)  # many steps: the first are held too
    expected = torch.cumprod(1 - betas, 0)
    for n in (1, 2, 150, steps):
        assert process.alpha(n / steps) ** 2 == pytest.approx(float(expected[n - 1]), rel=1e-9)


def test_three_hundred_steps_need_larger_betas() -> None:
    assert Recipe().process().alpha(1.0) ** 2 == pytest.approx(0.048, abs=5e-4)  # the card's figure
    assert Recipe(rescaled=True).process().alpha(1.0) ** 2 < 1e-4
    assert Recipe(rescaled=True, schedule="quadratic").process().alpha(1.0) ** 2 < 2e-3


def test_unknown_schedules_are_named() -> None:
    with pytest.raises(ValueError, match="linear, quadratic, sigmoid and cosine, got 'square'"):
        Recipe(schedule="square").process()  # type: ignore[arg-type]


class Nothing(nn.Module):
    def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: object = None) -> torch.Tensor:
        return torch.zeros_like(u)


def test_guessing_no_noise_costs_what_the_docstring_says() -> None:
    """E huber(z) by quadrature; the loss of a net that says 0, whatever the data and the level."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = (-0.5 * z**2).exp() / (2 * math.pi) ** 0.5
    huber = torch.where(z.abs() < 1, 0.5 * z**2, z.abs() - 0.5)
    exact = float(torch.trapezoid(density * huber, z))
    assert exact == pytest.approx(0.4247, abs=5e-5)
    denoiser = Preconditioned(Nothing(), Recipe().process(), predict_eps)
    losses = Huber(denoiser, N)(torch.full((400, 1, 16, 16), 0.3), None, Noise(0))
    spread = float(torch.trapezoid(density * (huber - exact) ** 2, z)) ** 0.5
    assert losses.shape == (400,)
    assert float(losses.mean()) == pytest.approx(exact, abs=4 * spread / (400 * 256) ** 0.5)


def test_the_loss_is_nothing_for_the_right_guess() -> None:
    """Data at one point: the exact denoiser knows eps."""
    world = GaussianWorld(torch.full((4,), 0.5), 1e-12 * torch.eye(4))
    losses = Huber(world.denoiser(Recipe().process()), N)(torch.full((50, 4), 0.5), None, Noise(0))
    assert float(losses.max()) < 1e-8


@pytest.mark.slow
def test_two_hundred_steps_beat_guessing_nothing() -> None:
    torch.manual_seed(0)
    recipe = Recipe(widths=(16, 32), blocks=1)
    denoiser = recipe.model()

    class Bars:
        def __len__(self) -> int:
            return 512

        def batch(self, items: list[int], noise: Noise) -> tuple[torch.Tensor, None]:
            x = -torch.ones(len(items), 1, 14, 14)
            for row, item in zip(x, items):
                row[0, item % 14] = 1.0
            return x, None

    optimizer = torch.optim.Adam(denoiser.parameters(), 1e-3)
    losses = [step.loss for step in fit(recipe.objective(denoiser), Bars(), optimizer, steps=200, batch=32, seed=0)]
    assert sum(losses[-20:]) / 20 < 0.5 * 0.4247


def test_samples_with_the_small_variance_over_all_levels() -> None:
    recipe = Recipe()
    assert len(recipe.times()) == N + 1 and recipe.times()[0] == 1.0 and recipe.times()[-1] == 0.0
    world = GaussianWorld(torch.zeros(1), torch.full((1, 1), 0.25))
    # Without what the denoiser knows of the variance, data at one point only are met exactly: btilde is too small else.
    x = sample(
        world.denoiser(Recipe(rescaled=True).process()),
        recipe.sampler(),
        shape=(4000, 1),
        times=recipe.times(),
        noise=Noise(0),
    )
    assert 0.8 * 0.25 < float(x.var()) < 0.25 * (1 + 4 * (2 / 4000) ** 0.5)
    assert annotated.EXAMPLE.startswith("python gallery/annotated_ddpm.py")
