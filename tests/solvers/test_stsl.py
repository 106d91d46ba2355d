"""STSL: the loss and its curvature, the moves, and what they leave of the posterior."""

import math
from itertools import pairwise

import pytest
import torch
from linear_codec import Coded

import sfumato as sf
from sfumato.denoisers import Counted
from sfumato.operators import Clip, Mask, Measurement
from sfumato.processes import LinearBeta, Table
from sfumato.solvers import STSL
from sfumato.solvers.stsl import curvature

W = torch.tensor([[1.0, 0.3, 0.0], [-0.2, 0.8, 0.1], [0.0, 0.4, 1.2]]).double()


def rows(n, seed=0):
    return sf.Noise(seed).normal(torch.zeros(n, 3).double())


def by_hand(world, matrix, m, z, t, s, moves, omega):
    """z moved down the norm `moves` times, then DDIM, all in matrices: D is affine on Gaussian data."""
    process = LinearBeta()
    alpha, var, C, B = process.alpha(t), process.sigma(t) ** 2, world.covs[0], matrix.A @ W
    J = alpha * C @ torch.linalg.inv(alpha**2 * C + var * torch.eye(3).double())

    def D(z):
        return world.mean + (z - alpha * world.mean) @ J.T

    for _ in range(moves):
        r = m.y - D(z) @ B.T
        z = z + omega * (r / r.norm(dim=1, keepdim=True)) @ B @ J
    return process.alpha(s) * D(z) + process.sigma(s) / math.sqrt(var) * (z - alpha * D(z))


@pytest.mark.parametrize("moves", [1, 3])
def test_on_gaussian_data_it_is_the_norm_alone(world, matrix, measured, moves):
    """The score is linear there, so the probe's gradient is 0 whatever its weight."""
    D, m, z, t, s = world.denoiser(LinearBeta()), measured.to_model(Coded(W)), rows(3, 1), 0.6, 0.5
    want = by_hand(world, matrix, measured, z, t, s, moves, 0.3)
    for weight in (0.0, 0.02, 50.0):
        got, _ = STSL(moves=moves, omega=0.3, curvature=weight).step(D, m, z, t, s, None, sf.Noise(2))
        torch.testing.assert_close(got, want, atol=1e-9, rtol=0)


@pytest.fixture(scope="module")
def two():
    """Two narrow modes on a line, and the score's curvature averaged over a unit normal, by quadrature."""
    weights, means = torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.5], [1.0]]).double()
    return sf.MixtureWorld(weights, means, 0.1 * torch.ones(2, 1, 1).double())


def averaged(two, z, t):
    """E (d/dz)^2 log p_t(z + eps), from the mixture's own second derivative."""
    process, grid = LinearBeta(), torch.linspace(-8, 8, 16001).double()
    x = (z + grid).requires_grad_()
    score = two.marginal(process, t).score(x[:, None])[:, 0]
    (bend,) = torch.autograd.grad(score.sum(), x)
    normal = torch.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    return float((bend * normal).sum() * (grid[1] - grid[0]))


def test_the_probe_is_the_trace_where_it_falls(two):
    """Its mean is the trace of the Hessian averaged over z + eps, by Stein's identity; so is its gradient's."""
    D, t, n = two.denoiser(LinearBeta()), 0.3, 200_000
    for at in (-0.4, 0.9):
        z = torch.full((n, 1), at).double().requires_grad_()
        bend = curvature(D, z, D(z, t).mean, t, sf.Noise(3))
        (g,) = torch.autograd.grad(bend.sum(), z)
        error = 4 / math.sqrt(n)
        assert float(bend.detach().mean()) == pytest.approx(
            averaged(two, at, t), abs=error * float(bend.detach().std())
        )
        slope = (averaged(two, at + 1e-3, t) - averaged(two, at - 1e-3, t)) / 2e-3
        assert float(g.mean()) == pytest.approx(slope, abs=error * float(g.std()) + 1e-4)


def test_a_move_goes_down_the_curvature(two):
    """Without a measurement's pull: z - weight / d times the gradient of the probe, drawn anew for each move."""
    D, process, t, s = two.denoiser(LinearBeta()), LinearBeta(), 0.3, 0.2
    m = Measurement(Mask(torch.tensor([1.0])), torch.zeros(2, 1).double(), 0.1)
    z = torch.tensor([[0.2], [-0.7]]).double()
    got, _ = STSL(moves=2, omega=0.0, curvature=0.5).step(D, m, z, t, s, None, sf.Noise(4))
    noise, want = sf.Noise(4), z
    law = two.marginal(process, t)
    for _ in range(2):
        eps, x = noise.normal(want), want.clone().requires_grad_()
        (g,) = torch.autograd.grad((eps * (law.score(x + eps) - law.score(x))).sum(), x)
        want = want - 0.5 * g
    want = process.reverse(sf.Estimate(D(want, t).mean), want, t, s, 0.0).mean
    torch.testing.assert_close(got, want, atol=1e-9, rtol=0)
    plane = sf.MixtureWorld(two.weights, two.means.expand(2, 4), 0.1 * torch.eye(4).double().expand(2, 4, 4))
    m4 = Measurement(Mask(torch.ones(4)), torch.zeros(2, 4).double(), 0.1)
    moved = [STSL(moves=1, omega=0.0, curvature=w).step(plane.denoiser(process), m4, z.expand(2, 4), t, t, None,
             sf.Noise(5))[0] - z for w in (0.5, 2.0)]  # fmt: skip
    torch.testing.assert_close(4 * moved[0], moved[1], atol=1e-9, rtol=0)
    x = z.expand(2, 4).clone().requires_grad_()
    bend = curvature(plane.denoiser(process), x, plane.denoiser(process)(x, t).mean, t, sf.Noise(5))
    torch.testing.assert_close(moved[1], -2.0 / 4 * torch.autograd.grad(bend.sum(), x)[0], atol=1e-9, rtol=0)


def test_where_it_starts(world, matrix, measured, given):
    """alpha E(A^T y) + sigma z, at t = 1 and below."""
    D, process, z = world.denoiser(LinearBeta()), LinearBeta(), rows(3, 6)
    codes = torch.linalg.solve(W, (measured.y @ matrix.A).T).T
    for t in (1.0, 0.4):
        got = STSL().start(D, measured.to_model(Coded(W)), t, given(z))
        torch.testing.assert_close(got, process.alpha(t) * codes + process.sigma(t) * z, atol=1e-12, rtol=0)


def test_a_decoder_that_turns_nothing(world, measured):
    D = world.denoiser(LinearBeta())
    plain, same = (
        STSL(8)(D, m, sf.Seeds(range(3))) for m in (measured, measured.to_model(Coded(torch.eye(3).double())))
    )
    torch.testing.assert_close(plain, same, atol=1e-10, rtol=0)


def test_what_it_leaves_of_the_posterior(pair):
    """A number that tells nothing of the seen one is left to DDIM, whose law is the prior's, so the posterior's, but
    for its steps. One that is correlated is drawn along too far, as the pull at each level is not the posterior's, and
    with too little spread: the truth is 1.04 and 0.36."""
    world, m = pair
    solver, process, n = STSL(40, moves=1, omega=0.05, curvature=0.0), Table.linear(), 3000
    apart = sf.GaussianWorld(torch.zeros(2).double(), 0.5 * torch.eye(2).double())
    x, var = solver(apart.denoiser(process), m.repeat(n), sf.Noise(7)), process.sigma(1.0) ** 2
    for t, s in pairwise(solver.times(process)):
        gain = process.alpha(t) * 0.5 / (process.alpha(t) ** 2 * 0.5 + process.sigma(t) ** 2)
        ratio = process.sigma(s) / process.sigma(t)
        var *= (process.alpha(s) * gain + ratio * (1 - process.alpha(t) * gain)) ** 2
    assert float(x[:, 1].var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))
    assert float(x[:, 1].mean()) == pytest.approx(0.0, abs=4 * math.sqrt(var / n))
    assert var == pytest.approx(float(apart.posterior(m).cov[1, 1]), rel=0.15)
    solver, n, truth = STSL(80, moves=3, omega=0.1, curvature=0.0), 1000, world.posterior(m)
    x = solver(world.denoiser(process), m.repeat(n), sf.Noise(7))
    assert float((x[:, 0] - 1.3).abs().max()) < solver.omega  # a norm's gradient does not shrink: one move to and fro
    error = 4 * math.sqrt(0.36 / n)
    assert float(truth.mean[1]) + error < float(x[:, 1].mean()) < 1.5
    assert 0.15 < float(x[:, 1].var()) < 0.9 * float(truth.cov[1, 1])


def test_settings_batches_and_errors(world, measured, alone):
    S = STSL()
    assert (S.steps, S.moves, S.omega, S.curvature) == (50, 5, 1.0, 0.02)
    assert S.times(Table.linear())[:2] == (1.0, 0.98)
    for weight, calls in ((0.02, 4 * (2 * 5 + 1)), (0.0, 4 * (5 + 1))):
        D = Counted(world.denoiser(LinearBeta()))
        STSL(4, curvature=weight)(D, measured, sf.Noise(0))
        assert D.calls == calls
    alone(STSL(6, omega=0.1), world.denoiser(LinearBeta()), measured.to_model(Coded(W)))
    for A in (Clip(), Measurement(Clip(), measured.y, 0.0).to_model(Coded(W)).operator):
        with pytest.raises(TypeError, match="STSL needs a Linear operator on data, got Clip"):
            STSL().check(A)
    with pytest.raises(FloatingPointError, match="STSL diverged at step"):
        STSL(4, omega=1e308)(world.denoiser(LinearBeta()), measured, sf.Noise(0))
