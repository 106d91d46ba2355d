"""Matching on normals: at the exact conditional mean the loss is the known variance, and no other map does better."""

import math
from typing import Any

import pytest
import torch
from basis import Basis
from torch import Tensor
from worlds_for_tests import close, tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.grids import uniform
from sfumato.noise import Noise, Seeds
from sfumato.processes import Anchored, Brownian, Gaussian, Pinned, Rectified, Time, expand
from sfumato.recipes import i2sb, rectified_flow, sf2m
from sfumato.samplers import Ancestral, Euler, Heun, sample
from sfumato.training import Matching, Pairs, Uniform, couplings, items, normal, reflow, straightness
from sfumato.training.objectives import x0_weight
from sfumato.worlds import GaussianWorld, MixtureWorld

V0, V1, M0, M1 = 1.0, 0.25, 0.5, -2.0


class Joint(Denoiser):
    """E[x_0 | x_t] of jointly normal ends with covariance c, x_t = (1 - t) x_0 + t x_1 + sigma sqrt(t (1 - t)) eps."""

    def __init__(self, process: Gaussian, c: float, sigma: float = 0.0, swap: bool = False) -> None:
        super().__init__()
        self.process, self.c, self.sigma = process, c, sigma
        self.ends = (V1, V0, M1, M0) if swap else (V0, V1, M0, M1)

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        (v0, v1, m0, m1), t = self.ends, expand(t, xt)
        var = (1 - t) ** 2 * v0 + t**2 * v1 + 2 * t * (1 - t) * self.c + self.sigma**2 * t * (1 - t)
        return Estimate(m0 + ((1 - t) * v0 + t * self.c) / var * (xt - (1 - t) * m0 - t * m1))


def ends(n: int, seed: int) -> tuple[Tensor, Tensor]:
    noise, like = Noise(seed), torch.empty(n, 1, dtype=torch.float64)
    return M0 + math.sqrt(V0) * noise.normal(like), M1 + math.sqrt(V1) * noise.normal(like)


def coupling(variance: float) -> couplings.Exact:
    return couplings.Exact(tensor(M0), tensor(V0).reshape(1, 1), tensor(M1), tensor(V1).reshape(1, 1), variance)


def source(n: int, noise: Noise) -> Tensor:
    return M1 + math.sqrt(V1) * noise.normal(torch.empty(n, 1, dtype=torch.float64))


def test_flow_of_any_coupling_ends_in_the_data() -> None:
    """D = E[x_0 | x_t] on `Rectified` carries the law of x_1 to that of x_0, whatever the covariance of the ends."""
    _, x1 = ends(2000, 0)
    for c in (-0.2, 0.0, 0.4):
        x0 = sample(Joint(Rectified(), c), Heun(), x1=x1, times=uniform(200), noise=Noise(0))
        # Between normals the flow is the increasing linear map.
        close(x0, M0 + math.sqrt(V0 / V1) * (x1 - M1), 2e-3)


def test_the_optimal_coupling_needs_one_step() -> None:
    _, x1 = ends(100, 0)
    truth = M0 + math.sqrt(V0 / V1) * (x1 - M1)
    c = float(coupling(0.0).cross())
    one = sample(Joint(Rectified(), c), Euler(), x1=x1, times=(1.0, 0.0), noise=Noise(0))
    close(one, truth, 1e-12)
    other = sample(Joint(Rectified(), 0.0), Euler(), x1=x1, times=(1.0, 0.0), noise=Noise(0))
    close(other, torch.full_like(x1, M0), 1e-12)  # independent: one step ends at the mean


def test_straightness_is_the_variance_that_the_velocity_leaves() -> None:
    x0, x1 = ends(200_000, 1)
    left = straightness(x0, x1, Joint(Rectified(), 0.0), levels=40).mean()
    t = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    var, cross = (1 - t) ** 2 * V0 + t**2 * V1, t * V1 - (1 - t) * V0
    truth = (V0 + V1 - cross**2 / var).mean()
    assert float(left) == pytest.approx(float(truth), rel=0.01)
    x0, x1 = coupling(0.0)(x0, x1, Noise(0))
    straight = straightness(x0, x1, Joint(Rectified(), float(coupling(0.0).cross())))
    assert straight.shape == (200_000,) and float(straight.max()) < 1e-12


def test_reflow_gives_the_pairs_of_the_flow_and_the_next_flow_is_straight() -> None:
    pairs = reflow(Joint(Rectified(), 0.0), Heun(), source, 250, times=uniform(200), noise=Noise(3), batch=100)
    assert len(pairs) == 250
    close(pairs.x0, M0 + math.sqrt(V0 / V1) * (pairs.x1 - M1), 2e-3)
    assert len(set(pairs.x1.flatten().tolist())) == 250
    x0, cond = pairs.batch([7, 3], Seeds([0, 1]))
    assert torch.equal(x0, pairs.x0[[7, 3]]) and torch.equal(cond["end"], pairs.x1[[7, 3]])
    with pytest.raises(ValueError, match="as many x_0 as x_1, got 3 and 2"):
        Pairs(torch.zeros(3, 1), torch.zeros(2, 1))


def loss(objective: Matching, x0: Tensor, cond: Any = None) -> float:
    return float(objective(x0, cond, Noise(9)).detach().mean())


class Shifted(Denoiser):
    """Another denoiser, a little off."""

    def __init__(self, inner: Denoiser, by: float) -> None:
        super().__init__()
        self.inner, self.process, self.by = inner, inner.process, by

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return Estimate(self.inner(xt, t, cond).mean + self.by)


def test_the_loss_at_the_truth_is_the_conditional_variance_and_rises_with_the_square_of_an_error() -> None:
    """sigma^2-bridge with the exact coupling: mean over t of Var[x_0 | x_t]."""
    sigma, n = 0.8, 200_000
    c = float(coupling(sigma**2).cross())
    x0, _ = ends(n, 2)
    t = 0.2 + 0.6 * (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    var = (1 - t) ** 2 * V0 + t**2 * V1 + 2 * t * (1 - t) * c + sigma**2 * t * (1 - t)
    truth = float((V0 - ((1 - t) * V0 + t * c) ** 2 / var).mean())
    losses = [
        loss(Matching(Shifted(Joint(Brownian(sigma), c, sigma), by), Pinned(Brownian(sigma)), source,
                      coupling(sigma**2), Uniform(0.2, 0.8), x0_weight), x0)
        for by in (0.0, 0.1, -0.1)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(truth, rel=0.01)
    assert 0.5 * (losses[1] + losses[2]) - losses[0] == pytest.approx(0.01, rel=1e-6)
    assert abs(losses[1] - losses[2]) < 0.01


def test_x1_comes_from_the_source_from_the_noise_or_with_the_pair() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(x0: Tensor, x1: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        seen.append((x0, x1))
        return x0, x1

    class Told(Joint):
        def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
            self.said = cond
            return super().forward(xt, t, cond)

    x0, x1 = ends(50, 4)
    path, told = Anchored(Rectified(), scale=0.0), Told(Rectified(), 0.0)
    Matching(told, path, source, spy)(x0, "kept", Noise(1))
    assert told.said == "kept"
    assert torch.equal(seen[-1][1], source(50, Noise(1)))
    Matching(told, path, None, spy)(x0, None, Noise(1))
    assert torch.equal(seen[-1][1], Noise(1).normal(x0))
    Matching(told, path, None, spy, paired=True)(x0, {"end": x1}, Noise(1))
    assert torch.equal(seen[-1][1], x1) and told.said is None
    Matching(told, path, None, spy, paired=True)(x0, {"end": x1, "label": 3}, Noise(1))
    assert told.said == {"label": 3}


def test_sources() -> None:
    assert normal((2, 3))(5, Noise(0)).shape == (5, 2, 3)
    pairs = Pairs(torch.arange(4.0).reshape(4, 1), torch.zeros(4, 1))
    drawn = items(pairs)(20_000, Noise(1)).flatten()
    shares = torch.bincount(drawn.long(), minlength=4) / 20_000
    close(shares, torch.full((4,), 0.25), 4 * math.sqrt(0.1875 / 20_000))
    assert items(pairs)(3, Seeds([1, 2, 3])).shape == (3, 1)


def test_sf2m_walks_the_bridge_of_two_normals() -> None:
    """Exact moments of the chain. A step t -> s loses (1 - s / t)^2 Var[x_0 | x_t], near 0 sigma^2 h / k for the k-th
    last step of length h: so the variance misses h sigma^2 log(1 / h) + O(h)."""
    c, gaps = float(coupling(0.64).cross()), {}
    for steps in (50, 100, 200):
        recipe, noise = sf2m.Recipe(sigma=0.8, steps=steps), Basis()
        near = Joint(recipe.process(), c, 0.8)
        near.ends = (V0, V1, 0.0, 0.0)
        x1 = noise.start(math.sqrt(V1))(steps + 1, noise)
        x0 = recipe.cross(near, x1, noise)
        gaps[steps] = V0 - float(x0.square().mean())
        assert abs(c - float((x0 * x1).mean())) < 1.0 / steps
    for steps in (50, 100):
        assert 2 * steps * gaps[2 * steps] - steps * gaps[steps] == pytest.approx(0.64 * math.log(2), rel=0.05)


def test_sf2m_walks_from_either_end() -> None:
    c, n = float(coupling(0.64).cross()), 20_000
    recipe = sf2m.Recipe(sigma=0.8, steps=100)
    for swap, start, mean in ((False, 1, M0), (True, 0, M1)):
        end = recipe.cross(Joint(recipe.process(), c, 0.8, swap=swap), ends(n, 5)[start], Noise(6))
        assert float(end.mean()) == pytest.approx(mean, abs=4 / math.sqrt(n))


def test_the_flow_of_the_bridge_is_the_increasing_map() -> None:
    """Its marginals are those of the bridge, so between normals the flow is linear, with first-order error in steps."""
    c = float(coupling(0.64).cross())
    _, x1 = ends(50, 5)
    truth, errors = M0 + math.sqrt(V0 / V1) * (x1 - M1), []
    for steps in (200, 400):
        recipe = sf2m.Recipe(sigma=0.8, steps=steps)
        near, far = Joint(recipe.process(), c, 0.8), Joint(recipe.process(), c, 0.8, swap=True)
        errors.append(float((recipe.flow(near, far, x1) - truth).abs().max()))
    assert errors[1] < 0.62 * errors[0] and errors[1] < 0.02


def test_the_sf2m_objective_couples_by_entropy_on_the_bridge() -> None:
    recipe = sf2m.Recipe(sigma=0.5, channels=1, widths=(8,), blocks=1, attention=(), dims=1)
    objective = recipe.objective(recipe.model(), normal((1, 4)))
    assert objective.coupling == couplings.Entropic(0.25)
    assert objective.path == Pinned(Brownian(0.5))
    if pytest.importorskip("ot"):
        value = objective(torch.zeros(3, 1, 4), None, Seeds([0, 1, 2]))
        assert value.shape == (3,) and bool((value > 0).all())
    chosen = recipe.objective(recipe.model(), coupling=couplings.independent)
    assert chosen.coupling is couplings.independent


def test_the_loss_of_a_flow_is_that_of_its_velocity() -> None:
    """An untrained network says 0, so the loss is |x_1 - x_0|^2 to the number, whatever t."""
    recipe = rectified_flow.Recipe(channels=1, widths=(8,), blocks=1, attention=(), dims=1, steps=7)
    model = recipe.model()
    x0 = Noise(0).normal(torch.empty(5, 1, 4))
    end = Noise(2).normal(x0)
    close(recipe.straight(model)(x0, {"end": end}, Noise(3)).detach(), (end - x0).square().flatten(1).mean(1), 1e-5)
    close(recipe.objective(model)(x0, None, Noise(2)).detach(), (end - x0).square().flatten(1).mean(1), 1e-5)
    assert recipe.objective(model).coupling is couplings.independent
    assert rectified_flow.Recipe(optimal=True).objective(model).coupling is couplings.optimal
    made = recipe.pairs(model, normal((1, 4)), 6, Noise(1))
    close(made.x0, made.x1, 1e-6)  # a velocity of 0 stays where it is
    assert len(recipe.times()) == 8


def test_i2sb_is_exact_on_two_points() -> None:
    """D known: one step of any size from x_1 lands on the posterior, and the last on x_0."""
    recipe = i2sb.Recipe(channels=1, widths=(8,), blocks=1, attention=(), dims=1)
    process = recipe.process()
    x0, x1 = torch.full((4, 1, 8), 0.3).double(), torch.full((4, 1, 8), -1.0).double()
    mixture = MixtureWorld(tensor(1.0), x0[0, 0][None], torch.zeros(1, 8, 8).double(), (1, 8))
    denoiser = mixture.denoiser(process).given({"image": x1})
    end = sample(denoiser, recipe.sampler(), x1=x1, times=recipe.times(), noise=Noise(0))
    close(end, x0, 1e-9)


def test_i2sb_posterior_on_a_normal_world() -> None:
    """x_0 ~ N(0, 0.25) with x_1 unrelated: the ancestral chain with mean and variance is exact in 4 steps."""
    process = i2sb.Recipe().process()
    world = GaussianWorld(torch.zeros(1).double(), torch.full((1, 1), 0.25).double())
    x1 = torch.full((100_000, 1), 0.7).double()
    denoiser = world.denoiser(process).given({"image": x1})
    x0 = sample(denoiser, Ancestral(), x1=x1, times=uniform(4), noise=Noise(0))
    assert float(x0.var()) == pytest.approx(0.25, abs=4 * 0.25 * math.sqrt(2 / 100_000))
    assert float(x0.mean()) == pytest.approx(0.0, abs=4 * 0.5 / math.sqrt(100_000))


def test_the_i2sb_loss_is_that_of_its_network() -> None:
    """F says 0 when new: the loss is |x_t - x_0|^2 / sigma^2 with the reference's sigma."""
    recipe = i2sb.Recipe(channels=1, widths=(8,), blocks=1, attention=(), dims=1)
    model = recipe.model()
    assert isinstance(model, i2sb.Bridge)
    x0 = Noise(0).normal(torch.empty(6, 1, 8))
    cond = {"image": x0 + 1.0}
    value = recipe.objective(model)(x0, cond, Noise(5)).detach()
    noise = Noise(5)
    t = 1e-3 + (1 - 1e-3) * noise.uniform(torch.empty(6, dtype=torch.float64))
    s2 = torch.tensor([recipe.process().inner.sigma(float(u)) ** 2 for u in t]).reshape(6, 1, 1)
    w, eps = 1 - s2 / recipe.process().inner.sigma(1.0) ** 2, noise.normal(x0)
    xt = w * x0 + (1 - w) * (x0 + 1.0) + (w * s2).sqrt() * eps
    close(value, ((xt - x0).square() / s2).flatten(1).mean(1), 1e-4)
    close(model(xt, t, cond).mean, xt, 1e-6)
    beside = i2sb.Recipe(channels=1, widths=(8,), blocks=1, attention=(), dims=1, beside=True).model()
    torch.nn.init.ones_(beside.net.leave.weight)
    a, b = (beside(xt, 0.5, {"image": v}).mean for v in (x0, x0 + 5.0))
    assert not torch.allclose(a, b)
    torch.nn.init.ones_(model.net.leave.weight)
    a, b = (model(xt, 0.5, {"image": v}).mean for v in (x0, x0 + 5.0))
    assert torch.equal(a, b)
