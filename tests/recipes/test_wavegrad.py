"""WaveGrad: levels between those of the table, any list of betas, and the search for a short one."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import Denoiser, Estimate
from sfumato.noise import Noise
from sfumato.recipes.wavegrad import Recipe, fibonacci
from sfumato.training import BetweenLevels, NoiseError, Steps
from sfumato.training.noise_error import absolute, log_absolute, squared

SMALL = {
    "hertz": 8000, "hop": 8, "window": 32, "n_fft": 32, "mels": 6, "low": 0.0, "high": 4000.0, "factors": (4, 2),
    "before": 8, "ways": (8, 6), "enter": 4, "downs": (8,),
}  # fmt: skip


def by_the_paper(v: float, betas: list[float]) -> float:
    """Variance of what algorithm 2 makes of N(0, 1) with the exact noise estimate of N(0, v)."""
    bars = [1.0]
    for beta in betas:
        bars.append(bars[-1] * (1.0 - beta))
    var = 1.0
    for n in range(len(betas), 0, -1):
        beta, bar, before = betas[n - 1], bars[n], bars[n - 1]
        slope = math.sqrt(1.0 - bar) / (bar * v + 1.0 - bar)  # eps of x
        var *= ((1.0 - beta / math.sqrt(1.0 - bar) * slope) / math.sqrt(1.0 - beta)) ** 2
        if n > 1:
            var += (1.0 - before) / (1.0 - bar) * beta
    return var


def variance(recipe: Recipe, times: tuple[float, ...], v: float) -> float:
    """The same of ours, step by step: each law is linear in x."""
    process, one, var = recipe.table(), torch.ones(1, 1).double(), 1.0
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.tensor([[v]]).double()).denoiser(process)
    for t, s in pairwise(times):
        law = recipe.sampler().reverse(process, Estimate(world(one, t).mean), one, t, s)
        var = var * float(law.mean) ** 2 + law.std**2
    return var


@pytest.mark.parametrize("v", [1.0, 0.04])
@pytest.mark.parametrize("steps", [1000, 50])
def test_the_variance_of_the_chain(v: float, steps: int) -> None:
    first, last = (1e-6, 0.01) if steps == 1000 else (1e-4, 0.05)
    betas = [first + (last - first) * i / (steps - 1) for i in range(steps)]
    assert variance(Recipe(), Recipe().times(steps), v) == pytest.approx(by_the_paper(v, betas), rel=1e-6)


def test_which_list_is_which() -> None:
    recipe = Recipe(fast=(1e-4, 1e-2, 0.5))
    assert fibonacci(6) == pytest.approx((1e-6, 2e-6, 3e-6, 5e-6, 8e-6, 13e-6))
    table = recipe.table()
    ends = {n: table.alpha(recipe.times(n)[0]) ** 2 for n in (3, 25, 50, 1000)}
    assert ends[25] == pytest.approx(0.72, abs=0.01)  # far from noise
    assert ends[3] == pytest.approx(0.9999 * 0.99 * 0.5) and ends[50] == pytest.approx(0.28, abs=0.005)
    assert len(recipe.times()) == 1001 and recipe.times(4) == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert Recipe().times(4) == recipe.times(4)
    assert table.alpha_bars[-1] == pytest.approx(
        math.prod(1.0 - (1e-6 + (0.01 - 1e-6) * i / 999) for i in range(1000)), rel=1e-9
    )


def test_levels_of_training() -> None:
    """Inside [l_S, 1), each interval with probability 1 / S, uniform inside it."""
    recipe = Recipe(steps=8, first=0.01, last=0.3)
    table, n = recipe.table(), 8000
    t = BetweenLevels(table)(table, n, Noise(0))
    a = table.alpha(t)
    levels = [1.0]
    for i in range(8):
        levels.append(levels[-1] * math.sqrt(1.0 - (0.01 + 0.29 * i / 7)))
    assert float(a.min()) >= levels[-1] - 1e-9 and float(a.max()) < 1.0
    for low, high in zip(levels[1:], levels, strict=False):
        inside = (a - low)[(a >= low) & (a < high)] / (high - low)
        assert len(inside) / n == pytest.approx(1 / 8, abs=4 * math.sqrt(7 / 64 / n))
        assert float(inside.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * len(inside)))
        assert float(inside.var()) == pytest.approx(1 / 12, rel=0.15)


class Off(Denoiser):
    """x_0 missed by a known noise: eps^ = eps + e."""

    def __init__(self, recipe: Recipe, x0: Tensor, e: Tensor) -> None:
        super().__init__()
        self.process, self.x0, self.e = recipe.process(), x0, e

    def forward(self, xt: Tensor, t: Tensor, cond: object = None) -> Estimate:
        ratio = torch.as_tensor(self.process.sigma(t) / self.process.alpha(t)).reshape(-1, 1, 1)
        return Estimate(self.x0 - ratio * self.e)


def test_the_loss_is_the_mean_absolute_error_of_the_noise() -> None:
    recipe = Recipe(**SMALL)
    e = torch.tensor([[[0.5, -1.5, 0.0, 2.0]], [[-3.0, 0.0, 0.0, 1.0]]]).double()
    x0 = torch.ones(2, 1, 4).double()
    objective = recipe.objective(Off(recipe, x0, e))
    assert objective(x0, None, Noise(0)).tolist() == pytest.approx([1.0, 1.0])
    assert isinstance(objective.times, BetweenLevels) and objective.times.table == recipe.table()
    for norm, want in ((squared, [6.5 / 4, 2.5]), (log_absolute, [0.0, 0.0])):
        assert NoiseError(Off(recipe, x0, e), Steps(1000), norm)(x0, None, Noise(0)).tolist() == pytest.approx(want)
    assert absolute(e.flatten(1)).tolist() == [1.0, 1.0]
    assert float(log_absolute(torch.zeros(1, 4).double())) == pytest.approx(math.log(1e-20))


def test_the_network_is_told_the_root_of_alpha_bar() -> None:
    recipe, seen = Recipe(**SMALL), {}
    D = recipe.model()

    class Told(torch.nn.Module):
        def forward(self, u: Tensor, c_noise: Tensor, cond: dict) -> Tensor:
            seen.update(level=c_noise, mel=cond["mel"])
            return torch.ones_like(u)

    D.net = Told()
    x, t = torch.randn(1, 1, 64), 0.5
    got = D(x, t, recipe.told(x)).mean
    bar = recipe.table().alpha_bars[499]
    assert float(seen["level"]) == pytest.approx(math.sqrt(bar)) and seen["mel"].shape == (1, 6, 8)
    assert torch.allclose(got, (x - math.sqrt(1 - bar)) / math.sqrt(bar), atol=1e-5)


def test_a_searched_list_is_nearer_to_the_truth_than_a_linear_one() -> None:
    v = 0.04
    found = Recipe().search(lambda betas: abs(by_the_paper(v, list(betas)) - v))
    assert len(found) == 6 and all(a < b for a, b in pairwise(found))
    for k, beta in zip((-6, -5, -4, -3, -2, -1), found, strict=True):
        assert beta / 10.0**k == pytest.approx(round(beta / 10.0**k)) and 1 <= round(beta / 10.0**k) <= 9
    linear = [1e-4 + (0.05 - 1e-4) * i / 5 for i in range(6)]
    assert abs(by_the_paper(v, list(found)) - v) < 0.5 * abs(by_the_paper(v, linear) - v)


def test_a_search_finds_what_is_best_one_mantissa_at_a_time() -> None:
    """A score that is a sum over the places has its minimum found exactly."""
    best = (3e-3, 9e-2, 1e-1)
    score = lambda betas: sum(abs(math.log(a / b)) for a, b in zip(betas, best, strict=True))  # noqa: E731
    assert Recipe().search(score, (-3, -2, -1)) == best


def test_mel_error_of_a_list() -> None:
    """The true sound has none; another one has the mean difference of its frames."""
    recipe = Recipe(**SMALL, clip=False)
    n = torch.arange(256.0)
    x0 = (0.3 * torch.sin(0.3 * n) + 0.01 * torch.sin(1.9 * n)).reshape(1, 1, -1)
    for factor, want in ((1.0, 0.0), (2.0, math.log(2.0))):
        score = recipe.mel_error(Off(recipe, factor * x0, torch.zeros(1)), x0)
        assert score((1e-4, 0.3)) == pytest.approx(want, abs=1e-4)
    assert grids.free(recipe.table(), (1e-4, 0.3))[-1] == 0.0


def test_the_factors_make_the_hop() -> None:
    assert Recipe().hop == 300
    with pytest.raises(ValueError, match=r"factors \(5, 5, 3, 2, 2\) is the hop, got 256"):
        Recipe(hop=256)
