"""DriftRec: the drifts and steps of the public code, and the bias of a drift that does not arrive."""

from __future__ import annotations

import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.processes import Reverting
from sfumato.recipes.driftrec import Recipe, ToTheMean
from sfumato.samplers import DDIM, sample

SMALL = {"channels": 1, "widths": (8,), "calls": 5}
F64 = {"dtype": torch.float64}

# drift, t, mean and std of x_t, mean and noise of a reverse step of 0.01; of the public code (commit 19fb882) with its
# defaults, at x_0 = 0.3, y = 0.7, x_t = 0.62, score = -1.5
PUBLIC = [
    ("ouve", 0.03, 0.3118217865805967, 0.006135896063104054, 0.6191778328398947, 0.003844230317874899),
    ("ouve", 0.5, 0.45738773611494665, 0.09981589079842376, 0.6175184489442036, 0.03348184638274327),
    ("ouve", 1.0, 0.552848223531423, 0.9999932332129434, 0.4510448944203573, 0.3348184638274327),
    ("tsdve", 0.03, 0.3001799595060743, 0.006170763493860528, 0.6199541968810769, 0.003812533621543306),
    ("tsdve", 0.5, 0.3470012389661618, 0.10451750422670013, 0.6179460642919244, 0.03320577969847615),
    ("tsdve", 1.0, 0.45738773611494665, 0.9999999999999997, 0.4538064291924404, 0.3320577969847615),
    ("cosve", 0.03, 0.30001775700530336, 0.006726755760610104, 0.6199705538059453, 0.004154978197864442),
    ("cosve", 0.5, 0.3664561192067231, 0.110449880361557, 0.6172356052823632, 0.0361883472740126),
    ("cosve", 1.0, 0.552848223531423, 1.0, 0.4219605282363198, 0.361883472740126),
]


def at(y: float, recipe: Recipe) -> Reverting:
    return recipe.process().bind({"image": torch.full((1, 1), y, **F64)})  # type: ignore[return-value]


class Scored(Denoiser):
    """The denoiser of one score everywhere."""

    def __init__(self, process: Reverting, score: float) -> None:
        super().__init__()
        self.process, self.score = process, score

    def forward(self, xt: torch.Tensor, t: float, cond: object = None) -> Estimate:
        sigma, alpha = self.process.sigma(t), self.process.alpha(t)
        return Estimate((xt + sigma**2 * self.score - self.process.shift(t, xt)) / alpha)


@pytest.mark.parametrize("row", PUBLIC, ids=[f"{row[0]}-{row[1]}" for row in PUBLIC])
def test_numbers_of_the_public_code(row: tuple[str, float, float, float, float, float]) -> None:
    drift, t, mean, std, moved, fresh = row
    # Pictures in [0, 1] there, in [-1, 1] here: x = 2 p - 1, scores are half as large.
    process = at(0.4, Recipe(drift=drift))
    law = process.marginal(torch.full((1, 1), -0.4, **F64), t)
    assert (float(law.mean) + 1) / 2 == pytest.approx(mean, abs=1e-12)
    assert law.std / 2 == pytest.approx(std, rel=1e-6)  # a spline there
    D, n = Scored(process, -0.75), 20_000
    x = torch.full((n, 1), 0.24, **F64)
    xs = (ToTheMean(last=0.0).step(D, x, t, t - 0.01, None, Noise(0))[0] + 1) / 2
    assert float(xs.mean()) == pytest.approx(moved, abs=4 * fresh / math.sqrt(n))
    assert float(xs.std()) == pytest.approx(fresh, rel=4 / math.sqrt(2 * n))
    for eta, want in ((1.0, moved), (0.0, None)):
        last = ToTheMean(eta, last=1.0).step(D, x[:2], t, t - 0.01, None, Noise(0))[0]
        if want is not None:
            assert (float(last[0]) + 1) / 2 == pytest.approx(want, abs=1e-9) and torch.equal(last[0], last[1])
        else:  # the flow: half of the score's part
            half = -0.01 * 0.5 * 1.5 * (fresh / 0.1) ** 2
            assert (float(last[0]) + 1) / 2 == pytest.approx(moved - half, abs=1e-9)


def by_the_sde(pull: float, v: float, N: int) -> tuple[float, float]:
    """Mean of x - y and variance of a draw of N(y + 0.3, v) by N Euler steps of the OUVE SDE and the exact score."""
    low, high, r = 0.02, 2.0, 0.3
    rate = math.log(high / low)
    times = [1.0 - 0.97 * i / (N - 1) for i in range(N)]
    mean, var = 0.0, high**2 - low**2 * math.exp(-2 * pull)
    for i, t in enumerate(times):
        a, s2 = math.exp(-pull * t), low**2 * (math.exp(2 * rate * t) - math.exp(-2 * pull * t))
        g2 = (low * math.exp(rate * t)) ** 2 * 2 * (pull + rate)
        h = t - times[i + 1] if i + 1 < N else 1 / N
        total = a * a * v + s2  # score = -(x - y - a r) / total
        k, k0 = 1 + pull * h - g2 * h / total, g2 * h / total * a * r
        mean, var = k * mean + k0, k**2 * var + (g2 * h if i + 1 < N else 0.0)
    return mean, var


@pytest.mark.parametrize("N", [40, 100])
def test_draws_follow_the_recursion(N: int) -> None:
    recipe, v, n = Recipe(calls=N), 0.04, 20_000
    process = at(0.1, recipe)
    D = sf.GaussianWorld(torch.tensor([0.4], **F64), torch.tensor([[v]], **F64)).denoiser(process)
    x1 = process.prior(torch.zeros(n, 1, **F64)).sample(Noise(0))
    x = sample(D, recipe.sampler(), x1=x1, times=recipe.times(), noise=Noise(1))
    mean, var = by_the_sde(1.0, v, N)
    assert float(x.mean()) - 0.1 == pytest.approx(mean, abs=4 * math.sqrt(var / n))
    assert float(x.var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))


@pytest.mark.parametrize("drift", ["ouve", "tsdve", "cosve"])
@pytest.mark.parametrize("v", [0.01, 0.1])
def test_a_start_at_y_leaves_the_mean_short(drift: str, v: float) -> None:
    """By the flow (1 - k a) of x_0 - y is reached, k^2 = v / (a^2 v + sigma(1)^2), a = alpha(1)."""
    recipe = Recipe(drift=drift)
    process, e = at(0.1, recipe), 0.7
    world = sf.GaussianWorld(torch.tensor([e], **F64), torch.tensor([[4 * v]], **F64))
    a = {"ouve": math.exp(-1.0), "tsdve": math.exp(-0.5), "cosve": math.exp(-1.0)}[drift]
    end = 1.0 - 1e-4 * math.exp(-2.0) if drift == "ouve" else 1.0
    k = math.sqrt(v / (a * a * v + end))
    start = process.prior(torch.zeros(2, 1, **F64)).mean + torch.tensor([[0.0], [1.0]], **F64)
    times = grids.uniform(1000)
    x = sample(world.denoiser(process), DDIM(), x1=start, times=times, noise=Noise(0))
    assert (float(x[0]) - 0.1) / (e - 0.1) == pytest.approx(1 - k * a, abs=2e-3)
    assert float(x[1] - x[0]) == pytest.approx(k, rel=5e-3)
    if drift == "ouve":
        assert k * a == pytest.approx({0.01: 0.037, 0.1: 0.116}[v], abs=5e-4)  # the share that is missing


def test_the_start_is_y_though_the_drift_has_not_arrived() -> None:
    law = at(0.6, Recipe()).prior(torch.zeros(2, 1, **F64))
    assert law.mean.flatten().tolist() == [0.6, 0.6]
    assert law.std == pytest.approx(2.0 * math.sqrt(1.0 - 1e-4 * math.exp(-2.0)))


def test_the_network_answers_the_noise() -> None:
    recipe, seen = Recipe(**SMALL), {}
    D = recipe.model()

    class Told(torch.nn.Module):
        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: dict) -> torch.Tensor:
            seen.update(u=u, image=cond["image"])
            return 0.5 * torch.ones_like(u)

    D.inner.net = Told()
    x, y = torch.randn(2, 1, 4, 4, **F64), torch.randn(2, 1, 4, 4, **F64)
    a, s = math.exp(-0.5), 2.0 * 0.01 * math.sqrt(100.0 - math.exp(-1.0))
    got = D(x, 0.5, {"image": y}).mean
    assert torch.allclose(got, y + (x - y - s * 0.5) / a, atol=1e-12)
    assert torch.allclose(seen["u"], (x - y) / 2 / math.sqrt(a * a + s * s / 4), atol=1e-12) and seen["image"] is y


def test_the_loss_is_that_of_the_noise_and_gradients_flow() -> None:
    recipe = Recipe(**SMALL)
    D, x = recipe.model(), torch.zeros(256, 1, 4, 4)
    objective = recipe.objective(D)
    objective(torch.randn(3, 1, 8, 8), {"image": torch.randn(3, 1, 8, 8)}, Noise(0)).sum().backward()
    assert all(p.grad is not None for p in D.parameters())
    with torch.no_grad():
        for p in D.parameters():
            p.zero_()
        loss = objective(x, {"image": x}, Noise(0))
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x.numel()))
    t = objective.times(recipe.process(), 4000, Noise(0))
    assert 0.01 <= float(t.min()) < 0.02 and float(t.max()) > 0.99


def test_the_grid_and_rows() -> None:
    times = Recipe().times()
    assert len(times) == 101 and times[0] == 1.0 and times[99] == 0.03 and times[100] == pytest.approx(0.02)
    assert times[1] == pytest.approx(1.0 - 0.97 / 99)
    assert Recipe().times(5)[-2:] == (0.03, 0.0) and Recipe().times(1) == (1.0, 0.0)
    with pytest.raises(ValueError, match="drift is 'ouve', 'tsdve' or 'cosve', got 'vp'"):
        Recipe(drift="vp")
    recipe = Recipe(**SMALL)
    D, y = recipe.model(), torch.randn(3, 1, 8, 8)

    def draw(rows: slice) -> torch.Tensor:
        told, noise = D.given({"image": y[rows]}), Seeds(range(3)[rows])
        x1 = told.process.prior(y[rows]).sample(noise)  # type: ignore[attr-defined]
        return sample(told, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)

    assert torch.allclose(draw(slice(0, 3))[1], draw(slice(1, 2))[0], atol=1e-4)
