"""InDI on Gaussian pairs, where the network, and so the whole way back, is linear; and the steps it must agree with."""

from __future__ import annotations

import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.processes import Anchored, Brownian, Gaussian, Rectified
from sfumato.recipes.indi import Direct, Recipe, Wandering
from sfumato.samplers import DDIM, sample

F64 = {"dtype": torch.float64}
SMALL = {"channels": 1, "widths": (8,), "calls": 4}
S = torch.tensor([[1.0, 0.6], [0.6, 1.5]], **F64)
H = torch.diag(torch.tensor([1.0, 0.0], **F64))
EYE = torch.eye(2, **F64)


def best(t: float, eps: float, H: torch.Tensor = H, S: torch.Tensor = S, tau: float = 0.0) -> torch.Tensor:
    """G of E[x_0 | x_t] = G x_t, x_t = ((1 - t) I + t H) x_0 + t tau n' + t eps n, x_0 ~ N(0, S)."""
    M = (1 - t) * torch.eye(len(S), **F64) + t * H
    return S @ M.T @ torch.linalg.pinv(M @ S @ M.T + t**2 * (tau**2 + eps**2) * torch.eye(len(S), **F64))


def whole(K: int, eps: float, **more: object) -> torch.Tensor:
    """P of x_0_hat = P x_1 after K even steps x_(t - d) = d/t F + (1 - d/t) x_t."""
    P = torch.eye(len(more.get("S", S)), **F64)  # type: ignore[arg-type]
    for k in range(K, 0, -1):
        P = (best(k / K, eps, **more) / k + (1 - 1 / k) * torch.eye(len(P), **F64)) @ P  # type: ignore[arg-type]
    return P


class Blind(Denoiser):
    """E[x_0 | x_t] of the pairs, not told y."""

    def __init__(self, process: Gaussian, eps: float, **more: object) -> None:
        super().__init__()
        self.process, self.eps, self.more = process, eps, more

    def forward(self, xt: torch.Tensor, t: float, cond: object = None) -> Estimate:
        return Estimate(xt @ best(t, self.eps, **self.more).T)  # type: ignore[arg-type]


def process_of(eps: float, y: torch.Tensor) -> Anchored:
    return Recipe(eps=eps / 2).process().bind({"image": y})


def test_one_step_is_regression() -> None:
    x1 = torch.randn(5, 2, **F64)
    D = Blind(process_of(0.5, x1), 0.5)
    x = sample(D, Direct(), x1=x1, times=Recipe().times(1), noise=Noise(0))
    assert torch.equal(x, D(x1, 1.0).mean)
    # no noise, H = diag(1, 0): the mean of x_0 given y
    y = torch.tensor([[0.8, 0.0]], **F64)
    assert torch.allclose(Blind(process_of(0.0, y), 0.0)(y, 1.0).mean, torch.tensor([[0.8, 0.48]], **F64))


@pytest.mark.parametrize("K", [4, 100])
def test_the_way_back_is_the_map_of_its_steps(K: int) -> None:
    x1 = torch.randn(5, 2, **F64)
    x = sample(Blind(process_of(0.5, x1), 0.5), Direct(), x1=x1, times=Recipe().times(K), noise=Noise(0))
    assert torch.allclose(x, x1 @ whole(K, 0.5).T, atol=1e-12)


def test_all_y_together_have_the_law_of_x0_and_one_y_has_not() -> None:
    """Marginal: S. Given y, at eps 0.5: [[.20, .15], [.15, 1.25]] where diag(0, 1.14) is right."""
    P = whole(2000, 0.5)
    assert torch.allclose(P @ (H @ S @ H.T + 0.25 * EYE) @ P.T, S, atol=2e-3)
    given = 0.25 * P @ P.T
    assert torch.allclose(given, torch.tensor([[0.20, 0.15], [0.15, 1.25]], **F64), atol=6e-3)
    right = 1.5 - 0.36
    few, many = (float((1e-4 * whole(K, 0.01) @ whole(K, 0.01).T)[1, 1]) for K in (100, 3000))
    assert few == pytest.approx(0.46, abs=5e-3) and few < 0.5 * right
    assert 0.95 * right < many < right + 0.01


def test_without_noise_what_y_does_not_say_stays_at_its_mean() -> None:
    P = whole(30, 1e-6)
    assert torch.allclose(P[:, 0], torch.tensor([1.0, 0.6], **F64), atol=1e-6)
    assert float(1e-12 * (P @ P.T)[1, 1]) < 1e-4
    turn = torch.tensor([[0.9, 0.3], [-0.2, 0.7]], **F64)  # invertible, no noise: undone exactly, by any K
    for K in (1, 7):
        assert torch.allclose(whole(K, 0.0, H=turn), torch.linalg.inv(turn), atol=1e-9)


def test_added_noise_is_undone_as_by_the_flow_of_ve() -> None:
    """y = x_0 + tau n: the map tends to S^(1/2) (S + tau^2)^(-1/2); each step is DDIM's of x_0 + t tau n."""
    tau, one = 0.7, torch.tensor([[0.9]], **F64)
    gain = float(whole(4000, 0.0, H=torch.eye(1, **F64), S=one, tau=tau))
    assert gain == pytest.approx(math.sqrt(0.9 / (0.9 + tau**2)), abs=1e-3)
    world, x1 = sf.GaussianWorld(torch.zeros(1, **F64), one), torch.randn(4, 1, **F64)

    class Straight(Brownian):
        def sigma(self, t: float) -> float:
            return self.size * t

    process = Straight(tau)
    D, times = world.denoiser(process), grids.uniform(9)
    ours = sample(D, Direct(), x1=x1, times=times, noise=Noise(0))
    assert torch.allclose(ours, sample(D, DDIM(), x1=x1, times=times, noise=Noise(0)), atol=1e-12)
    assert torch.allclose(ours, x1 * float(whole(9, 0.0, H=torch.eye(1, **F64), S=one, tau=tau)), atol=1e-12)


def test_the_step_is_the_generic_deterministic_one_though_y_is_not_in_it() -> None:
    y, x1 = torch.randn(5, 2, **F64), torch.randn(5, 2, **F64)
    for at in (y, torch.zeros_like(y)):
        D = Blind(process_of(0.5, at), 0.5)
        generic = sample(D, DDIM(), x1=x1, times=grids.uniform(6), noise=Noise(0))
        assert torch.allclose(sample(D, Direct(), x1=x1, times=grids.uniform(6), noise=Noise(0)), generic, atol=1e-12)


@pytest.mark.parametrize("wandering", [False, True])
def test_told_y_the_law_given_y_is_exact(wandering: bool) -> None:
    """The residual follows v_s = (s/t + (1 - s/t) g)^2 v_t + fresh, g = (1-t) v / ((1-t)^2 v + sigma_t^2)."""
    eps, v, n, K = 0.4, 0.3, 20_000, 60
    recipe = Recipe(eps=eps / 2, wandering=wandering, told=True)
    process = recipe.process().bind({"image": torch.full((1, 1), 0.2, **F64)})
    world = sf.GaussianWorld(torch.tensor([-0.5], **F64), torch.tensor([[v]], **F64))

    def spread(K: int) -> float:
        var = eps**2
        for k in range(K, 0, -1):
            t, s = k / K, (k - 1) / K
            sigma2, there = ((eps**2 * u if wandering else (eps * u) ** 2) for u in (t, s))
            g = (1 - t) * v / ((1 - t) ** 2 * v + sigma2)
            var = (s / t + (1 - s / t) * g) ** 2 * var + there - (s / t) ** 2 * sigma2
        return var

    x1 = process.prior(torch.zeros(n, 1, **F64)).sample(Noise(0))
    assert float(x1.mean()) == pytest.approx(0.2, abs=0.012) and float(x1.std()) == pytest.approx(eps, rel=0.02)
    x = sample(world.denoiser(process), recipe.sampler(), x1=x1, times=recipe.times(K), noise=Noise(1))
    assert float(x.var()) == pytest.approx(spread(K), rel=4 * math.sqrt(2 / n))
    assert float(x.mean()) == pytest.approx(-0.5, abs=4 * math.sqrt(v / n))
    assert abs(spread(4000) / v - 1) < 0.005


def test_noise_is_drawn_only_where_it_wanders_and_may_not_grow() -> None:
    x1 = torch.zeros(2, 1, **F64)
    for recipe, new in ((Recipe(eps=0.1), 0.0), (Recipe(eps=0.1, wandering=True), 0.2 * math.sqrt(0.5 * 0.5))):
        process = recipe.process().bind({"image": x1})

        class Zero(Denoiser):
            def __init__(self, process: Gaussian) -> None:
                super().__init__()
                self.process = process

            def forward(self, xt: torch.Tensor, t: float, cond: object = None) -> Estimate:
                return Estimate(torch.zeros_like(xt))

        x = Direct().step(Zero(process), torch.zeros(20_000, 1, **F64), 1.0, 0.5, None, Noise(0))[0]
        assert float(x.std()) == pytest.approx(new, rel=0.02)

    class Growing(Rectified):
        def sigma(self, t: float) -> float:
            return t * t

    with pytest.raises(ValueError, match=r"does not grow with t, and it does from 0\.5 to 1\.0"):
        Direct().step(Zero(Growing()), x1, 1.0, 0.5, None, Noise(0))


def test_the_wandering_path() -> None:
    process, t = Wandering(), torch.tensor([0.25, 0.81], **F64)
    assert process.sigma(0.25) == 0.5 and process.alpha(0.25) == 0.75
    d_alpha, d_sigma = process.rates(t)
    assert d_alpha.tolist() == [-1.0, -1.0] and d_sigma.tolist() == pytest.approx([1.0, 0.5 / 0.9])
    assert process.rates(0.25) == (-1.0, 1.0)
    assert process.time_of(process.log_snr(0.3)) == pytest.approx(0.3)


def test_the_network_is_not_told_y() -> None:
    for told in (False, True):
        recipe = Recipe(**SMALL, told=told)
        D = recipe.model()
        with torch.no_grad():
            for p in D.parameters():
                p.add_(0.1 * torch.randn_like(p))
        x, y = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
        a, b = (D.given({"image": v})(x, 0.5).mean for v in (y, -y))
        assert torch.equal(a, b) != told
        recipe.objective(D)(x, {"image": y}, Noise(0)).sum().backward()
        assert all(p.grad is not None for p in D.parameters())

        def draw(rows: slice, D: Denoiser = D, y: torch.Tensor = y, recipe: Recipe = recipe) -> torch.Tensor:
            bound, noise = D.given({"image": y[rows]}), Seeds(range(2)[rows])
            x1 = bound.process.prior(y[rows]).sample(noise)  # type: ignore[attr-defined]
            return sample(bound, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)

        assert torch.allclose(draw(slice(0, 2))[1], draw(slice(1, 2))[0], atol=1e-5)
