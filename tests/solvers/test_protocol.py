"""That the protocol carries what published methods need: blind operators, particles, grids that travel."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Identity, Linear, Mask
from sfumato.processes import LinearBeta, Rectified
from sfumato.samplers import DDIM
from sfumato.solvers import MMPS, Solver


@dataclass(frozen=True, eq=False)
class Gain(Linear):
    """y = phi x, phi one number for each row."""

    phi: torch.Tensor

    def __call__(self, x):
        return self.phi * x

    def adjoint(self, y):
        return self.phi * y

    def event(self, y):
        return tuple(y.shape[1:])

    def at(self, parameters):
        return Gain(parameters)


@dataclass(frozen=True)
class BlindGain(Solver):
    """Gibbs sampling of (x_0, phi): x_0 | phi, y by diffusion, phi | x_0, y ~ N(<x, y> / |x|^2, sigma^2 / |x|^2) at the
    clean end of each pass. phi travels in memory."""

    steps: int = 20
    sweeps: int = 8

    def times(self, process):
        return grids.log_snr(process, self.steps) * self.sweeps

    def init(self, denoiser, m, xt):
        return m.operator.phi

    def step(self, denoiser, m, xt, t, s, memory, noise):
        guided = MMPS(iterations=1).guide(denoiser, replace(m, operator=m.operator.at(memory)))
        xs, _ = DDIM().step(guided, xt, t, s, None, noise)
        if s == 0.0:
            power = (xs * xs).sum(1, keepdim=True)
            memory = (xs * m.y).sum(1, keepdim=True) / power + m.sigma / power.sqrt() * noise.normal(memory)
        return xs, memory


def test_a_blind_operator():
    """Unknown gain with a flat prior: mean and spread of phi against its posterior on a grid."""
    d, n, mean, sigma = 20, 300, 1.0, 0.7
    world = sf.GaussianWorld(torch.full((d,), mean).double(), 0.25 * torch.eye(d).double())
    x0 = world.sample(1, sf.Noise(3))
    m = sf.Measurement.simulate(Gain(torch.full((1, 1), 1.6).double()), x0, sigma=sigma, noise=sf.Noise(4))
    phi = torch.linspace(0.3, 4.0, 4001).double()[:, None]
    var = 0.25 * phi**2 + sigma**2
    log = -0.5 * ((m.y - mean * phi) ** 2 / var + var.log()).sum(1)
    weight = torch.softmax(log, 0)
    exact = float((weight * phi[:, 0]).sum())
    spread = math.sqrt(float((weight * (phi[:, 0] - exact) ** 2).sum()))
    start = Gain(torch.full((n, 1), 0.5).double())
    blind = sf.Measurement(start, m.y.expand(n, d), sigma)
    # A clean state cannot go back to noise by q(x_s | x_t) of the straight path: alpha(1) = 0 forgets it, as it should.
    last = list(BlindGain().trajectory(world.denoiser(Rectified()), blind, sf.Noise(5)))[-1]
    assert torch.equal(start.phi, torch.full((n, 1), 0.5).double())
    assert abs(float(last.memory.mean()) - exact) < 4 * spread / math.sqrt(n) + 0.1 * spread
    assert float(last.memory.std()) == pytest.approx(spread, rel=0.2)


@dataclass(frozen=True)
class Particles(Solver):
    """A particle filter: potentials N(y; A D, sigma^2 + A Var A^T), resampled where the effective number falls below
    half. The rows are one population; memory holds log weight and log potential of each particle."""

    steps: int = 40

    def potential(self, m, mean, var):
        spread = m.sigma**2 + m.operator(var)
        return -0.5 * (m.residual(mean) ** 2 / spread + spread.log()).sum(1)

    def init(self, denoiser, m, xt):
        return torch.zeros(len(m), dtype=xt.dtype), torch.zeros(len(m), dtype=xt.dtype)

    def step(self, denoiser, m, xt, t, s, memory, noise):
        estimate, (weight, last) = denoiser(xt, t), memory
        twist = self.potential(m, estimate.mean, estimate.var)
        weight, mean = torch.log_softmax(weight + twist - last, 0), estimate.mean
        if float((2 * weight).exp().sum()) * len(m) > 2.0:
            pick = noise.choice(weight.exp().expand(len(m), -1))
            xt, mean, twist, weight = xt[pick], mean[pick], twist[pick], torch.zeros_like(weight)
        x = denoiser.process.reverse(sf.Estimate(mean), xt, t, s).sample(noise)
        if s == 0.0:
            weight = torch.softmax(weight + self.potential(m, x, torch.zeros_like(x)) - twist, 0)
            x = x[noise.choice(weight.expand(len(m), -1))]
        return x, (weight, twist)


def test_particles():
    """Weights in memory, rows that replace each other: the exact posterior of a mixture, weights of the modes too."""
    weights = torch.tensor([0.7, 0.3]).double()
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.5]]).double()
    world = sf.MixtureWorld(weights, means, 0.05 * torch.eye(2).double().expand(2, 2, 2))
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0])), torch.tensor([[0.1, 0.0]]).double(), sigma=0.7)
    truth = world.posterior(m)
    x = Particles()(world.denoiser(LinearBeta()), m.repeat(2000), sf.Noise(0))
    right = float((x[:, 0] > 0).double().mean())
    assert right == pytest.approx(float(truth.weights[1]), abs=0.05)
    torch.testing.assert_close(x.mean(0), truth.mean, atol=0.1, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), truth.cov, atol=0.1, rtol=0)


@dataclass(frozen=True)
class Counting(Solver):
    """Moves that count themselves: memory is (moves down, times told of a move up)."""

    def init(self, denoiser, m, xt):
        return 0, 0

    def restart(self, denoiser, m, xt, memory):
        return memory[0], memory[1] + 1

    def step(self, denoiser, m, xt, t, s, memory, noise):
        x = denoiser.process.reverse(denoiser(xt, t), xt, t, s).sample(noise)
        return x, (memory[0] + 1, memory[1])


class Tape(sf.Noise):
    """Remembers what it drew."""

    def __init__(self, seed):
        super().__init__(seed)
        self.drawn = []

    def normal(self, like):
        self.drawn.append(super().normal(like))
        return self.drawn[-1]


def test_a_grid_that_travels(world):
    """Upwards x_s = r x_t + sqrt(sigma_s^2 - r^2 sigma_t^2) z with r = alpha_s / alpha_t, and memory is kept."""
    process, tape = LinearBeta(), Tape(0)
    m = sf.Measurement(Identity(), torch.zeros(2, 3).double(), sigma=0.1)
    times = grids.travel((1.0, 0.6, 0.3, 0.2, 0.1), jump=2, repeats=2)
    assert times == (1.0, 0.6, 0.3, 1.0, 0.6, 0.3, 0.2, 0.1)
    steps = list(Counting().trajectory(world.denoiser(process), m, tape, times=times))
    assert [s.memory for s in steps] == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]
    for i, (before, after) in enumerate(pairwise(steps)):
        if after.time > before.time:
            r = process.alpha(after.time) / process.alpha(before.time)
            std = math.sqrt(process.sigma(after.time) ** 2 - r**2 * process.sigma(before.time) ** 2)
            torch.testing.assert_close(after.x, r * before.x + std * tape.drawn[i + 1], atol=1e-12, rtol=0)


def test_a_guide_restarts_its_sampler_and_keeps_its_guide(world, matrix):
    """The history of a multi-step sampler does not survive a move up; the guided denoiser is made once."""
    m, D = sf.Measurement(matrix, torch.ones(2, 2).double(), 0.1), world.denoiser(LinearBeta())
    solver = MMPS(sampler=sf.samplers.DPMpp2M())
    states = [s.memory for s in solver.trajectory(D, m, sf.Noise(0), times=(1.0, 0.6, 0.3, 0.6, 0.2))]
    assert all(memory[0] is states[0][0] for memory in states)
    assert states[3][1] == states[0][1] and states[2][1] is not None
