"""NU-Wave: what is left of the band, the logarithm of the loss, and the level that the network is told."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.denoisers import Denoiser, Estimate
from sfumato.noise import Noise
from sfumato.recipes.nu_wave import Recipe
from sfumato.training import BetweenLevels
from sfumato.training.noise_error import log_absolute

SMALL = {"hertz": 8000, "hop": 4, "n_fft": 128, "stride": 32, "width": 4, "blocks": 3, "cycle": 2}


def tone(bin_of: float, n: int = 2048) -> Tensor:
    """A tone in the middle of this bin of an STFT of 128."""
    return torch.sin(2 * math.pi * bin_of / 128 * torch.arange(n, dtype=torch.float64)).reshape(1, 1, n)


@pytest.mark.parametrize(("factor", "kept", "cut"), [(2, 25.0, 40.0), (4, 9.0, 25.0)])
def test_the_upper_band_goes_before_samples_do(factor: int, kept: float, cut: float) -> None:
    """65 bins: those from 32 on go at r = 2, from 16 on at r = 4. Had samples gone first, the upper tone would fold."""
    recipe = Recipe(**SMALL, factor=factor)
    inside = slice(128, -256)
    lower = recipe.lower(tone(kept) + tone(cut))
    assert lower.shape == (1, 1, 2048)
    assert float((lower - tone(kept))[..., inside].abs().max()) < 1e-3
    heard = recipe.damaged(tone(cut), Noise(0))
    assert heard.shape == (1, 1, 2048) and float(heard[..., inside].abs().max()) < 1e-3


def test_straight_lines_between_samples_that_stay_where_they_were() -> None:
    recipe = Recipe(**SMALL, factor=2)
    y = recipe.interpolated(torch.tensor([[[1.0, 3.0, -1.0]]]))
    assert y.tolist() == [[[1.0, 2.0, 3.0, 1.0, -1.0, -1.0]]]
    slow = tone(1.0)
    assert torch.allclose(recipe.damaged(slow, Noise(0))[..., 128:-256:2], slow[..., 128:-256:2], atol=1e-3)


def test_a_file_of_the_lower_rate_or_of_the_model_s() -> None:
    recipe, y = Recipe(**SMALL, factor=2), torch.ones(1, 1, 8)
    assert recipe.received(y, 4000).shape == (1, 1, 16) and recipe.received(y, 8000) is y
    with pytest.raises(ValueError, match="8000 samples a second, the sound has 2000"):
        recipe.received(y, 2000)
    assert torch.equal(recipe.told(y)["low"], y)


class Wrong(Denoiser):
    """eps^ = eps + e."""

    def __init__(self, recipe: Recipe, x0: Tensor, e: Tensor) -> None:
        super().__init__()
        self.process, self.x0, self.e = recipe.process(), x0, e

    def forward(self, xt: Tensor, t: Tensor, cond: object = None) -> Estimate:
        return Estimate(self.x0 - (self.process.sigma(t) / self.process.alpha(t)).reshape(-1, 1, 1) * self.e)


def test_loud_and_quiet_clips_pull_alike() -> None:
    """log mean |e|: its gradient times e is 1 for each clip, whatever the size of e."""
    e = torch.tensor([[[0.5, -1.5, 0.0, 2.0]], [[0.003, 0.0, 0.0, 0.001]]], dtype=torch.float64, requires_grad=True)
    recipe = Recipe(**SMALL)
    objective = recipe.objective(Wrong(recipe, torch.zeros(2, 1, 4).double(), e))
    loss = objective(torch.zeros(2, 1, 4).double(), None, Noise(0))
    assert loss.tolist() == pytest.approx([0.0, math.log(0.001)])
    (g,) = torch.autograd.grad(loss.sum(), e)
    assert (g * e).sum((1, 2)).tolist() == pytest.approx([1.0, 1.0])
    assert isinstance(objective.times, BetweenLevels) and objective.norm is log_absolute


def test_the_network_is_told_the_level_and_the_lower_band() -> None:
    recipe, seen = Recipe(**SMALL), {}
    D = recipe.model()
    first = D.net(torch.zeros(1, 1, 64), torch.tensor([0.5]), {"low": torch.zeros(1, 1, 64)})
    assert first.abs().max() > 0.0  # the head does not begin at zero

    class Told(torch.nn.Module):
        def forward(self, u: Tensor, c_noise: Tensor, cond: dict) -> Tensor:
            seen.update(level=c_noise, low=cond["low"])
            return torch.ones_like(u)

    D.net = Told()
    x = torch.randn(1, 1, 64)
    got = D(x, 0.5, {"low": x}).mean
    bar = math.prod(1.0 - (1e-6 + (0.006 - 1e-6) * i / 999) for i in range(500))
    assert float(seen["level"]) == pytest.approx(math.sqrt(bar)) and seen["low"] is x
    assert torch.allclose(got, (x - math.sqrt(1 - bar)) / math.sqrt(bar), atol=1e-5)


def test_all_eight_levels_are_inside_those_of_training() -> None:
    table, times = Recipe().table(), Recipe().times(8)
    assert table.alpha(times[0]) ** 2 == pytest.approx(0.089, abs=5e-4) and len(times) == 9
    assert table.alpha_bars[-1] == pytest.approx(0.0495, abs=5e-4) and len(Recipe().times()) == 1001


def test_the_factor_divides_the_hop() -> None:
    for wrong in (1, 3):
        with pytest.raises(ValueError, match=f"divides the hop of 256, got {wrong}"):
            Recipe(factor=wrong)
    with pytest.raises(ValueError, match="at most half of n_fft = 1024, got 513"):
        Recipe(stride=513)
