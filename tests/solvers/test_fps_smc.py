import math
from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Identity, Mask, Matrix
from sfumato.processes import LinearBeta
from sfumato.samplers import DDIM
from sfumato.solvers import DDNM, FPSSMC


def _kalman(process, times, sigma):
    """Infinitely many particles on N(0, 1) seen whole, y = 1: mean and variance of the result over paths y_t and
    particles. The filter's own recursions, without the package."""
    t = times[0]
    mean = torch.tensor([0.0, process.alpha(t)]).double()  # of (filter mean, y_t)
    cov = torch.diag(torch.tensor([0.0, process.sigma(t) ** 2]).double())
    V = 1.0
    for t, s in pairwise(times[:-1]):
        a, b, u, v = process.alpha(t), process.alpha(s), process.sigma(t), process.sigma(s)
        tau = 1.0 - (a * v / (b * u)) ** 2
        k = v * math.sqrt(1.0 - tau) / u
        q = v * math.sqrt(tau)
        p = k + (b - a * k) * a
        ahead = p**2 * V + q**2
        K = ahead / (ahead + (b * sigma) ** 2)
        V = (1.0 - K) * ahead
        P = torch.tensor([[(1 - K) * p, K * k], [0.0, k]]).double()
        shift = torch.tensor([K * (b - k * a), b - k * a]).double()
        z = torch.tensor([K * q, q]).double()
        mean, cov = P @ mean + shift, P @ cov @ P.T + z[:, None] * z
    last = process.alpha(times[-2])  # the mean of x_0 on this prior
    return last * float(mean[0]), last**2 * (V + float(cov[0, 0]))


CARD = [(0.5, 100, 1.20, 0.22), (0.5, 400, 1.23, 0.10), (0.1, 100, 1.00, 0.54), (0.1, 1000, 1.01, 0.18)]


@pytest.mark.parametrize("sigma, steps, mean, variance", CARD)
def test_the_published_form_counts_y_at_every_level(ddpm, sigma, steps, mean, variance):
    """The oracle of the next test against numbers computed elsewhere: over the exact mean and variance."""
    got = _kalman(ddpm, grids.table(ddpm, steps, spacing="linspace"), sigma)
    exact = 1 / (1 + sigma**2)
    assert got[0] / exact == pytest.approx(mean, abs=0.011) and got[1] / (sigma**2 * exact) == pytest.approx(
        variance, abs=0.011
    )


@pytest.mark.parametrize("sigma", [0.5, 0.1])
def test_particles_follow_the_filter(ddpm, sigma):
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double())
    n, times = 500, grids.table(ddpm, 50, spacing="linspace")
    m = sf.Measurement(Identity(), torch.ones(n, 1).double(), sigma)
    solver = FPSSMC(particles=60, c=1.0, ancestral=True)
    *_, last = solver.trajectory(world.denoiser(ddpm), m, sf.Noise(0), times=times)
    mean, variance = _kalman(ddpm, times, sigma)
    spread = float(last.x.mean(1).std()) / math.sqrt(n)
    assert float(last.x.mean()) == pytest.approx(mean, abs=4 * spread + 0.005)
    assert float(last.x.var()) == pytest.approx(variance, rel=0.2)


@pytest.mark.parametrize("sigma", [0.5, 0.1])
def test_telescoping_weights_are_exact(sigma):
    """Mean and variance of the posterior of the discrete chain, whose prior N(0, c) has a recursion; the published form
    has a mean 1.2 times and a variance 0.1 times it."""
    world, process = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double()), LinearBeta()
    m = sf.Measurement(Identity(), torch.ones(40, 1).double(), sigma)
    solver = FPSSMC(particles=1000, c=1.0, ancestral=True, telescoping=True, last=0.02)
    times = grids.log_snr(process, 100)
    *_, last = solver.trajectory(world.denoiser(process), m, sf.Noise(0), times=times)
    c = 1.0
    for t, s in pairwise(times):
        k_x, k_D, std, _ = process.weights(t, s, 1.0)
        c = (k_x + k_D * process.alpha(t)) ** 2 * c + (std if s > 0 else 0.02) ** 2
    w, x = torch.softmax(last.memory.log_weight, 1), last.x[..., 0]
    means, squares = (w * x).sum(1), (w * x**2).sum(1)
    exact, var = c / (c + sigma**2), c * sigma**2 / (c + sigma**2)
    for rows, truth in ((means, exact), (squares, var + exact**2)):
        error = float(rows.std()) / math.sqrt(40)
        assert error < 0.02 * truth and float(rows.mean()) == pytest.approx(truth, abs=3 * error)
    # kept until half of the particles are lost: not all equal, and as if there were at least half
    assert float((w.max(1).values - w.min(1).values).max()) > 0
    assert float((1 / w.square().sum(1)).max()) >= 500


@pytest.mark.parametrize("telescoping", [False, True])
def test_noiseless_measurements_are_met(world, matrix, telescoping):
    m = sf.Measurement.simulate(matrix, world.sample(2, sf.Noise(5)), sigma=0.0, noise=sf.Noise(6))
    x = FPSSMC(steps=200, particles=20, telescoping=telescoping)(world.denoiser(LinearBeta()), m, sf.Noise(0))
    torch.testing.assert_close(matrix(x), m.y, atol=1e-9 if telescoping else 0.05, rtol=0)


def test_the_hidden_part_of_a_noiseless_measurement():
    """One coordinate of a correlated pair seen: the law of the other, up to the grid."""
    cov = torch.tensor([[1.0, 0.6], [0.6, 0.5]]).double()
    world = sf.GaussianWorld(torch.zeros(2).double(), cov)
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0])), torch.tensor([[1.0, 0.0]]).double(), 0.0)
    solver = FPSSMC(steps=200, particles=30, c=1.0, ancestral=True)
    *_, last = solver.trajectory(world.denoiser(LinearBeta()), m.repeat(100), sf.Noise(0))
    x = last.x[:, 0, 1]
    assert float(x.mean()) == pytest.approx(0.6, abs=0.15)
    assert float(x.var()) == pytest.approx(0.5 - 0.36, rel=0.45)


@pytest.mark.parametrize("ancestral", [False, True])
def test_nothing_seen_is_the_prior_sampler(world, ancestral):
    """A = 0: the chain of each particle is the fixed-ratio step, or DDIM's, with eta^2 = c."""
    process, times = LinearBeta(), (1.0, 0.6, 0.3, 0.0)
    blind = sf.Measurement(Matrix(torch.zeros(2, 3).double()), torch.zeros(2, 2).double(), 0.1)
    D, x1 = world.denoiser(process), sf.Noise(9).normal(torch.zeros(2, 1, 3).double())

    class Twice(sf.Noise):
        """Drops the draws of the path y_t: only those of the particles count."""

        def __init__(self):
            self.own, self.other = sf.Noise(1), sf.Noise(2)

        def _draw(self, like, draw):
            return (self.own if like.ndim == 3 and like.shape[1:] == (1, 3) else self.other)._draw(like, draw)

    solver = FPSSMC(particles=1, c=0.64, ancestral=ancestral)
    got = list(solver.trajectory(D, blind, Twice(), x1=x1, times=times))[-1].x[:, 0]
    if ancestral:
        want = sf.sample(D, DDIM(0.8), x1=x1[:, 0], times=times, noise=sf.Noise(1))
    else:
        quiet = sf.Measurement(blind.operator, blind.y, 0.0)
        want = list(DDNM(eta=0.8).trajectory(D, quiet, sf.Noise(1), x1=x1[:, 0], times=times))[-1].x
    torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


def test_the_path_of_y_diffuses_as_the_state_does(world, matrix):
    """y_t ~ N(alpha y, sigma^2 A A^T) at every level, one path for each set; A shift is carried along."""
    anchor = torch.full((1, 3), 2.0).double()
    process = sf.processes.Anchored(LinearBeta(), anchor)
    m = sf.Measurement(matrix, torch.tensor([[0.4, -0.2]]).double(), 0.3).repeat(4000)
    steps = FPSSMC(particles=2).trajectory(world.denoiser(process), m, sf.Noise(0), times=(1.0, 0.6, 0.3))
    for step in list(steps)[1:]:
        y, t = step.memory.y, step.time
        mean = process.alpha(t) * m.y[0] + process.shift(t, anchor) @ matrix.A.T
        torch.testing.assert_close(y.mean(0), mean[0], atol=0.06, rtol=0)
        torch.testing.assert_close(torch.cov(y.T), process.sigma(t) ** 2 * matrix.A @ matrix.A.T, atol=0.08, rtol=0)


def test_defaults(ddpm):
    s = FPSSMC()
    assert (s.steps, s.particles, s.c, s.ancestral, s.telescoping, s.last) == (1000, 5, 0.95, False, False, 0.01)
    assert FPSSMC(steps=2).times(ddpm) == (1.0, 0.001, 0.0)
    with pytest.raises(ValueError, match="FPSSMC: c is a share, from 0 to 1, got 2"):
        FPSSMC(c=2.0)
