"""Recovery likelihood on quadratic energies: the conditional law, the chain's bias, the maximum of the likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from worlds_for_tests import GaussianWorld, close, normal

from sfumato import recipes
from sfumato.denoisers import Energy
from sfumato.nets.energy import EnergyNet
from sfumato.noise import Noise, Seeds
from sfumato.processes import LinearBeta
from sfumato.samplers import DDIM, sample

module = recipes.load("recovery-likelihood")
Recipe, RecoveryEnergy, Recovery, Contrastive = (
    module.Recipe,
    module.RecoveryEnergy,
    module.Recovery,
    module.Contrastive,
)


class Quadratic(nn.Module):
    """f(y) = -scale |y|^2 / (2 v) / 1, v learned, the same at every level; remembers what it was told."""

    def __init__(self, v: float, scale: float = 1.0) -> None:
        super().__init__()
        self.v, self.scale = nn.Parameter(torch.tensor(v, dtype=torch.float64)), scale

    def forward(self, y, level, cond=None):
        self.told = level
        return -self.scale * y.flatten(1).square().sum(1) / (2 * self.v)


def test_levels_of_the_public_code() -> None:
    """Indices 0, 100, .., 500, 999 of 1000 betas: a_s and sigmas of get_sigma_schedule(0.0001, 0.02, 6)."""
    recipe = Recipe()
    times = recipe.times()
    assert times == (1.0, 0.501, 0.401, 0.301, 0.201, 0.101, 0.001)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = (1 - betas).sqrt()
    index = [0, 100, 200, 300, 400, 500, 999]
    energy = RecoveryEnergy(nn.Identity(), recipe.process(), times, recipe.b2)
    first = math.sqrt(1 - float(kept[:1].prod()) ** 2)
    for k in range(6):
        a = float(kept[index[k] + 1 : index[k + 1] + 1].prod())
        cumulated = math.sqrt(1 - float(kept[: index[k] + 1].prod()) ** 2)
        square = cumulated / first * 2e-4 * (1 - a**2)
        got = energy.bridge(times[5 - k], times[6 - k], torch.zeros(2, 3, dtype=torch.float64))
        for value, want in zip(got, (1.0 if k == 5 else a, math.sqrt(1 - a**2), square, float(k < 5))):
            close(value, torch.full((2, 1), want, dtype=torch.float64), 1e-9)


def quadratic(v: float, t: float, s: float) -> tuple[RecoveryEnergy, float, float, float]:
    """An energy whose F(y) = f / d^2 is -y^2 / (2 v): f is scaled by d^2. With (a, s^2, d^2) of the step."""
    recipe = Recipe()
    energy = RecoveryEnergy(Quadratic(v), recipe.process(), recipe.times(), 0.003)
    a, std, square, _ = (float(p.flatten()[0]) for p in energy.bridge(t, s, torch.zeros(1, 1, dtype=torch.float64)))
    energy.net.scale = square
    return energy, a, std**2, square


def test_chain_settles_at_the_conditional_with_the_bias_of_langevin() -> None:
    """Precision P = 1/v + 1/s^2: mean (x / s^2) / P, variance (1 / P) / (1 - d^2 P / 4), in the unit of y = a x_s."""
    energy, a, s2, d2 = quadratic(0.05, 0.201, 0.101)
    x = torch.full((40_000, 1), 0.8, dtype=torch.float64)
    moved, _ = Recovery(moves=100).step(energy, x, 0.201, 0.101, None, Noise(0))
    P = 1 / 0.05 + 1 / s2
    y = a * moved
    want = (1 / P) / (1 - d2 * P / 4)
    assert want > 1.02 / P  # the bias shows
    assert abs(float(y.mean()) - 0.8 / s2 / P) < 4 * math.sqrt(want / 40_000)
    assert abs(float(y.var()) / want - 1) < 4 * math.sqrt(2 / 40_000)


def test_one_move_by_hand() -> None:
    energy, a, s2, d2 = quadratic(0.3, 0.201, 0.101)
    x, z = normal(3, 2), Noise(4).normal(torch.empty(3, 2, dtype=torch.float64))
    got, memory = Recovery(1, 0.99).step(energy, x, 0.201, 0.101, "kept", Noise(4))
    assert memory == "kept"
    close(got, (x + 0.5 * d2 * (-x / 0.3) + 0.99 * math.sqrt(d2) * z) / a, 1e-10)
    close(energy.net.told, 101.0)
    # The second move is pulled back to x_t.
    one = Recovery(1).step(energy, x, 0.201, 0.101, None, Noise(5))[0] * a
    two = Recovery(2).step(energy, x, 0.201, 0.101, None, Noise(5))[0] * a
    noise = Noise(5)
    noise.normal(x)
    close(two, one + 0.5 * d2 * (-one / 0.3 + (x - one) / s2) + math.sqrt(d2) * noise.normal(x), 1e-10)
    assert not got.requires_grad


def test_the_top_level_has_no_recovery_term() -> None:
    """There a = 1 and y moves under its own energy alone: any start forgets x_t."""
    energy, a, _, d2 = quadratic(0.4, 1.0, 0.501)
    assert a == 1.0
    x = normal(2, 2)
    one = Recovery(1).step(energy, x, 1.0, 0.501, None, Noise(5))[0]
    two = Recovery(2).step(energy, x, 1.0, 0.501, None, Noise(5))[0]
    noise = Noise(5)
    noise.normal(x)
    close(two, one + 0.5 * d2 * (-one / 0.4) + math.sqrt(d2) * noise.normal(x), 1e-10)


def test_rows_at_different_levels_are_those_at_one() -> None:
    recipe = Recipe()
    energy = RecoveryEnergy(Quadratic(0.3, 1e-4), recipe.process(), recipe.times(), recipe.b2)
    x, t, s = normal(2, 3), torch.tensor([1.0, 0.201]).double(), torch.tensor([0.501, 0.101]).double()
    both = Recovery(3).step(energy, x, t, s, None, Seeds([1, 2]))[0]
    for i in range(2):
        one = Recovery(3).step(energy, x[i : i + 1], float(t[i]), float(s[i]), None, Seeds([i + 1]))[0]
        close(both[i : i + 1], one)


def test_maximum_of_the_recovery_likelihood_is_the_variance_of_y() -> None:
    """x_0 ~ N(0, 0.5): at each level the gradient of the loss in v vanishes at Var y = a^2 Var x_s, and only there."""
    recipe = Recipe(levels=(100, 200, 999), moves=600)
    x0 = math.sqrt(0.5) * normal(20_000, 1)
    process = recipe.process()
    t, s = 0.201, 0.101
    alpha, sigma = process.alpha(s), process.sigma(s)
    a = process.alpha(t) / alpha
    truth = a**2 * (alpha**2 * 0.5 + sigma**2)
    signs = []
    for v in (0.7 * truth, truth, 1.5 * truth):
        energy = RecoveryEnergy(Quadratic(v), process, recipe.times(), 0.04)
        _, _, square, _ = (float(p.flatten()[0]) for p in energy.bridge(t, s, x0[:1]))
        energy.net.scale = square
        xs = process.marginal(x0, s).sample(Noise(10))
        xt = process.forward(xs, s, t).sample(Noise(11))
        lower = Recovery(250).step(energy, xt, t, s, None, Noise(2))[0]
        gap = (energy.energy(a * lower, s) - energy.energy(a * xs, s)) / square
        (slope,) = torch.autograd.grad(gap.mean(), energy.net.v)
        signs.append(float(slope) * v)
    # d loss / dv = (E y-^2 - E y+^2) / (2 v^2), in units of 1 / v: below 0 where v is too small.
    assert signs[0] < -0.02 and signs[2] > 0.02
    assert abs(signs[1]) < 0.012


def test_objective_weighs_levels_and_keeps_the_chain_out_of_the_graph() -> None:
    recipe = Recipe(levels=(0, 300, 999), moves=2)
    energy = RecoveryEnergy(Quadratic(0.4), recipe.process(), recipe.times(), recipe.b2)
    loss = Contrastive(energy, Recovery(2))(normal(64, 2), None, Noise(3))
    assert loss.shape == (64,)
    (slope,) = torch.autograd.grad(loss.sum(), energy.net.v)
    # f = -|y|^2 / (2 v): d f / d v = -f / v for each y, if y- is a constant.
    close(slope, -loss.sum().detach() / 0.4, 1e-9)
    # By hand, with the same draws: y+ = a x_s, and the weight s_1 / s of the first and of this level.
    noise, x0 = Noise(3), normal(64, 2)
    level = noise.choice(torch.ones(64, 2, dtype=torch.float64))
    assert set(level.tolist()) == {0, 1}
    times = torch.tensor([0.001, 0.301, 1.0], dtype=torch.float64)
    s, t = times[level], times[level + 1]
    process = recipe.process()
    xs = process.marginal(x0, s).sample(noise)
    xt = process.forward(xs, s, t).sample(noise)
    lower = Recovery(2).step(energy, xt, t, s, None, noise)[0]
    stds = [math.sqrt(1 - (process.alpha(b) / process.alpha(a)) ** 2) for a, b in ((0.001, 0.301), (0.301, 1.0))]
    ratio = [process.alpha(0.301) / process.alpha(0.001), 1.0]
    for i in range(64):
        k = int(level[i])
        f = [-float((ratio[k] * x[i]).square().sum()) / 0.8 for x in (lower, xs)]
        close(loss[i].detach(), stds[0] / stds[k] * (f[0] - f[1]), 1e-9)


def test_log_density_belongs_to_the_nearest_level_below() -> None:
    recipe = Recipe()
    energy = RecoveryEnergy(Quadratic(0.4), recipe.process(), recipe.times(), recipe.b2)
    x = normal(2, 3)
    for t, s, late in ((0.101, 0.101, 0.201), (0.15, 0.101, 0.201), (1.0, 0.501, 1.0), (0.0005, 0.001, 0.101)):
        a, _, square, _ = energy.bridge(late, s, x)
        close(energy.log_density(x, t), energy.energy(a * x, s) / square.flatten())
        close(energy.net.told, 1000 * s)
    rows = energy.log_density(x, torch.tensor([0.15, 1.0]))
    close(rows[1], energy.log_density(x, 1.0)[1])
    close(rows[0], energy.log_density(x, 0.15)[0])


def test_errors() -> None:
    with pytest.raises(ValueError, match="levels rise, at least two"):
        Recipe(levels=(5, 5))
    with pytest.raises(ValueError, match="levels rise, at least two"):
        Recipe(levels=(5,))
    with pytest.raises(ValueError, match=r"moves is at least 1, got .* 0"):
        Recipe(moves=0)
    other = Energy(Quadratic(1.0), LinearBeta())
    with pytest.raises(TypeError, match="Recovery samples a RecoveryEnergy, got Energy"):
        Recovery().step(other, normal(1, 1), 0.5, 0.2, None, Noise(0))


def test_network_has_spectral_norm_gradients_everywhere_and_learns() -> None:
    """Six steps on points of one value against noise: the loss falls below zero, every weight moves."""
    recipe = Recipe(channels=1, widths=(8, 16), blocks=1, stride=2, levels=(0, 300, 999), moves=3)
    torch.manual_seed(0)
    model = recipe.model()
    objective = recipe.objective(model)
    x0 = torch.full((16, 1, 8, 8), 0.5)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-3)
    for step in range(8):
        loss = objective(x0, None, Noise(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 1:
            assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in objective.parameters())
        optimizer.step()
    assert float(objective(x0, None, Noise(99)).mean()) < -0.05
    model.eval()
    for layer in (model.net.enter, model.net.blocks[0].conv1, model.net.leave):
        close(torch.linalg.matrix_norm(layer.weight.flatten(1).detach(), 2), 1.0, 0.15)
    drawn = sample(model, recipe.sampler(), shape=(2, 1, 8, 8), times=recipe.times(), noise=Noise(0))
    assert bool(torch.isfinite(drawn).all())
    close(
        model(drawn, 0.101).mean,
        (drawn + model.process.sigma(0.101) ** 2 * model.score(drawn, 0.101)) / model.process.alpha(0.101),
        1e-5,
    )


def test_energy_net_tells_levels_apart_and_sums_over_positions() -> None:
    torch.manual_seed(0)
    net = EnergyNet(1, (4, 8), 2, dims=1).double().eval()
    x, level = normal(3, 1, 16), torch.tensor([1.0, 1.0, 500.0]).double()
    with torch.no_grad():
        for block in net.blocks:
            block.modulate.weight.normal_(generator=torch.Generator().manual_seed(1))
    f = net(x, level)
    assert f.shape == (3,)
    assert float((net(x, level.flip(0)) - f).abs()[0]) > 1e-6
    # Far from its ends the energy of a signal is a sum over positions: twice the repeat, twice the middle's share.
    wave = normal(1, 1, 4).repeat(1, 1, 24)
    sizes = [float(net(wave[..., : 4 * k], level[:1]).detach()) for k in (16, 20, 24)]
    close(sizes[2] - sizes[1], sizes[1] - sizes[0], 1e-8)


def test_energy_denoiser_of_a_gaussian_is_the_worlds() -> None:
    """f = log p_t of N(m, C): D and every DDIM run agree with the exact denoiser; gradients pass through it."""
    mean, cov = torch.tensor([0.3, -0.8]).double(), torch.tensor([[0.5, 0.2], [0.2, 0.3]]).double()
    world, process = GaussianWorld(mean, cov), LinearBeta()

    class LogDensity(nn.Module):
        def forward(self, x, level, cond=None):
            # c_noise is log SNR, alpha^2 = sigmoid of it.
            return world.marginal(process, process.time_of(float(level[0]))).log_prob(x)

    energy = Energy(LogDensity(), process)
    x = normal(4, 2)
    for t in (0.1, 0.5, 0.9):
        close(energy(x, t).mean, world.denoiser(process)(x, t).mean, 1e-8)
    times = (0.9, 0.6, 0.3)
    ours = sample(energy, DDIM(), x1=x, times=times, noise=Noise(0))
    close(ours, sample(world.denoiser(process), DDIM(), x1=x, times=times, noise=Noise(0)), 1e-8)
    assert not ours.requires_grad
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(leaf, 0.5).mean.sum(), leaf)
    (want,) = torch.autograd.grad(world.denoiser(process)(leaf, 0.5).mean.sum(), leaf)
    close(slope, want, 1e-8)
    with torch.no_grad():
        assert not energy(x, 0.5).mean.requires_grad
    clocked = Energy(Quadratic(1.0), process, clock=lambda t: 7.0 * t)
    clocked(x, 0.5)
    close(clocked.net.told, torch.full((4,), 3.5))
    close(clocked(x, torch.full((4,), 0.5).double()).mean, clocked(x, 0.5).mean)


def test_a_model_is_sampled_by_its_own_chains() -> None:
    """`Model.sample` runs the recipe's chains over its levels; a sampler that is asked for runs instead."""
    from sfumato import Model
    from sfumato.codecs import Affine

    recipe = Recipe(channels=1, widths=(4,), blocks=1, levels=(0, 300, 999), moves=2, test_noise=0.5)
    torch.manual_seed(0)
    model = recipe.model().eval()
    assert model.drawing() == (Recovery(2, 0.5), recipe.times())
    made = Model(Affine(1.0, 0.0), model, {"event": [1, 4, 4]})
    noise = Seeds.keyed(3, range(2))
    x1 = model.process.prior(torch.zeros(2, 1, 4, 4)).sample(noise)
    want = sample(model, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    close(made.sample(2, seed=3), want, 1e-5)
    other = made.sample(2, seed=3, sampler=DDIM(), steps=4)
    assert float((other - want).abs().max()) > 1e-3
