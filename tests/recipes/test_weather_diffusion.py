"""WeatherDiffusion: estimates of windows are averaged, not draws; seams as an exact computation has them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import sfumato as sf
from sfumato import grids
from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser, Estimate, Windowed
from sfumato.noise import Noise, Seeds
from sfumato.processes import Table
from sfumato.recipes.weather_diffusion import Recipe
from sfumato.samplers import DDIM, sample
from sfumato.training import Antithetic
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,), "calls": 4, "window": 8, "stride": 2}


def stationary(n: int) -> Tensor:
    """Covariance e^(-|d| / 2) of n places."""
    place = torch.arange(n, dtype=torch.float64)
    return torch.exp(-0.5 * (place[:, None] - place).abs())


def by_hand(n: int, p: int, r: int, bars: list[float]) -> Tensor:
    """Covariance of the draws: each step's map is a matrix, from the mean of the windows' exact noise estimates."""
    M = torch.eye(n, dtype=torch.float64)
    for bar, after in zip(bars, [*bars[1:], 1.0], strict=True):
        a, s = math.sqrt(bar), math.sqrt(1 - bar)
        C = stationary(p)
        window = (torch.eye(p).double() - bar * C @ torch.linalg.inv(bar * C + s**2 * torch.eye(p).double())) / s
        eps, cover = torch.zeros(n, n).double(), torch.zeros(n).double()
        for at in range(0, n - p + 1, r):
            eps[at : at + p, at : at + p] += window
            cover[at : at + p] += 1
        eps = eps / cover[:, None]
        x0 = (torch.eye(n).double() - s * eps) / a
        M = (math.sqrt(after) * x0 + math.sqrt(1 - after) * eps) @ M
    return M @ M.T


def across(C: Tensor, i: int) -> float:
    """Correlation of the neighbours i - 1 and i over the true one."""
    return float(C[i - 1, i] / (C[i - 1, i - 1] * C[i, i]).sqrt()) / math.exp(-0.5)


@pytest.mark.parametrize(("part", "known"), [(1, 0.0), (2, 0.57), (4, 0.81), (8, 0.92), (16, 0.96)])
def test_seams_are_those_of_the_exact_linear_map(part: int, known: float) -> None:
    p, n = 32, 96
    recipe = Recipe(window=p, stride=p // part)
    world = sf.GaussianWorld(torch.zeros(p).double(), stationary(p))
    process, times = recipe.process(), recipe.times()
    guide = recipe.guide(world.denoiser(process))
    D = Windowed(guide.inner, (p,), guide.overlap, flat=guide.flat)
    rows = sample(D, recipe.sampler(), x1=torch.eye(n).double(), times=times, noise=Noise(0))
    C = rows.T @ rows  # the map is linear: unit vectors give its columns
    bars = [process.alpha(t) ** 2 for t in times[:-1]]
    assert torch.allclose(C, by_hand(n, p, p // part, bars), atol=1e-9)
    # The known figures are of 50 levels with both ends; those of fewer are larger, all by the same share.
    fine = grids.table(process, 50, spacing="linspace")
    rows = sample(D, recipe.sampler(), x1=torch.eye(n).double(), times=fine, noise=Noise(0))
    edge = 64 if part == 1 else 32 + p // part  # of a window, far from the border
    assert across(rows.T @ rows, edge) == pytest.approx(known, abs=0.007)


def test_the_levels_are_those_of_the_public_code() -> None:
    assert [round(t * 1000) for t in Recipe().times()] == [*range(961, 0, -40), 0]
    assert [round(t * 1000) for t in Recipe().times(10)] == [*range(901, 0, -100), 0]


class Pixel(Denoiser):
    """Each pixel a normal of its own mean, told by the picture beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Table.linear()

    def forward(self, xt: Tensor, t: float, cond: dict[str, Tensor] | None = None) -> Estimate:
        assert cond is not None
        a, s = self.process.alpha(t), self.process.sigma(t)
        gain = 0.09 * a / (0.09 * a**2 + s**2)
        return Estimate(cond["image"] + gain * (xt - a * cond["image"]))


@pytest.mark.parametrize("size", [(64, 64), (65, 79), (70, 64), (20, 90), (9, 9)])
def test_a_pointwise_denoiser_is_unchanged_whatever_the_size(size: tuple[int, int]) -> None:
    """Every pixel is covered, where 64 + 16 k is missed and where a picture is smaller than a window."""
    y, x1 = (torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(k)).double() for k in (0, 1))
    recipe = Recipe()
    windowed, whole = (D.given({"image": y}) for D in (recipe.guide(Pixel()), Pixel()))
    times = recipe.times(5)
    a, b = (sample(D, DDIM(), x1=x1, times=times, noise=Noise(0)) for D in (windowed, whole))
    assert torch.allclose(a, b, atol=1e-12)


def test_one_window_is_the_network_itself_bit_for_bit() -> None:
    torch.manual_seed(0)
    recipe = Recipe(**SMALL)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.1 * torch.randn_like(p))
        x, y = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
        assert torch.equal(recipe.guide(D)(x, 0.5, {"image": y}).mean, D(x, 0.5, {"image": y}).mean)
        big, beside = torch.randn(1, 1, 8, 10), torch.randn(1, 1, 8, 10)
        got = recipe.guide(D)(big, 0.5, {"image": beside}).mean
        parts = [D(big[..., i : i + 8], 0.5, {"image": beside[..., i : i + 8]}).mean for i in (0, 2)]
    want = torch.cat([parts[0][..., :2], (parts[0][..., 2:] + parts[1][..., :6]) / 2, parts[1][..., 6:]], -1)
    assert torch.allclose(got, want, atol=1e-5)


def test_times_come_in_pairs_and_the_loss_is_that_of_the_noise() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.model()
    t = Antithetic(1000)(recipe.process(), 7, Noise(3))
    n = (t * 1000).round().long()
    assert torch.allclose(t * 1000, n.double()) and (n[:3] + n[4:]).tolist() == [1001] * 3
    many = (Antithetic(10)(recipe.process(), 4000, Noise(0)) * 10).round().long()
    assert sorted(set(many.tolist())) == list(range(1, 11))
    with torch.no_grad():
        for p in D.parameters():
            p.zero_()
        x0 = torch.zeros(256, 1, 8, 8)
        loss = recipe.objective(D)(x0, {"image": x0}, Noise(0))
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x0.numel()))


def test_large_pictures_keep_their_own_windows() -> None:
    """Model cuts large pictures into windows of its own, but not where the method has them."""
    torch.manual_seed(0)
    fields = {**SMALL, "window": 16, "stride": 16, "calls": 1}
    recipe = Recipe(**fields)
    D, seen = recipe.model(), set()
    D.net.register_forward_hook(lambda net, args, out: seen.add(tuple(args[0].shape[1:])))
    y = torch.rand(1, 1, 16, 528)
    model = Model(Affine.unit(), D.eval(), {"recipe": "weather-diffusion", "fields": fields, "event": [1, None, None]})
    got = model.enhance(y, seed=2).samples[0]
    assert seen == {(1, 16, 16)}
    noise = Seeds.keyed(2, [(0, 0)])
    with torch.no_grad():
        bound = recipe.guide(D).given({"image": y * 2 - 1})
        x = sample(bound, DDIM(), x1=noise.normal(y), times=recipe.times(), noise=noise)
    assert torch.allclose(got, x * 0.5 + 0.5, atol=1e-5)
