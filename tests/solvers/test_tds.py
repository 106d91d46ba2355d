import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import MeanOnly
from sfumato.operators import Function, Mask, Matrix
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.samplers import Ancestral
from sfumato.solvers import TDS, PiGDMScore
from sfumato.solvers.particles import multinomial, pick


def _density(m, world):
    """p(y) of one y, from dense matrices."""
    A = m.operator.A
    E = A @ world.cov @ A.T + m.sigma**2 * torch.eye(len(A)).double()
    return float(torch.distributions.MultivariateNormal(A @ world.mean, E).log_prob(m.y[0]).exp())


@pytest.mark.parametrize("process", [LinearBeta(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("threshold", [0.0, 0.5, 2.0])
def test_the_evidence_is_unbiased(process, threshold):
    """Independent elements with known variance: the kernels are exact in ten steps, so E[estimate] = p(y)."""
    world = sf.GaussianWorld(torch.tensor([0.2, -0.1]).double(), torch.diag(torch.tensor([1.0, 0.3]).double()))
    A = Matrix(torch.tensor([[1.0, 0.5], [0.3, -0.6]]).double())
    m = sf.Measurement(A, torch.tensor([[0.7, 0.2]]).double(), 0.4)
    solver = TDS(particles=40, threshold=threshold)
    *_, last = solver.trajectory(world.denoiser(process), m.repeat(150), sf.Noise(0), times=grids.log_snr(process, 10))
    z = last.memory.log_evidence.exp()
    assert float(z.mean()) == pytest.approx(_density(m, world), abs=4 * float(z.std()) / math.sqrt(150))
    assert float(z.std()) < 0.7 * float(z.mean())


def test_the_evidence_counts_what_was_seen():
    """A mask: the density of the seen number alone."""
    world = sf.GaussianWorld(torch.zeros(2).double(), torch.eye(2).double())
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0])), torch.tensor([[0.5, 0.0]]).double(), 0.5)
    D, times = world.denoiser(LinearBeta()), grids.log_snr(LinearBeta(), 10)
    *_, last = TDS(particles=200).trajectory(D, m.repeat(50), sf.Noise(0), times=times)
    z = last.memory.log_evidence.exp()
    exact = math.exp(-0.5 * 0.25 / 1.25) / math.sqrt(2 * math.pi * 1.25)
    assert float(z.mean()) == pytest.approx(exact, abs=4 * float(z.std()) / math.sqrt(50))


@pytest.mark.parametrize("known", [True, False], ids=["variance", "mean-only"])
def test_the_posterior_of_a_mixture(known):
    """Two modes, weights too, from the weighted sets of 40 rows; the pull of a Gaussian guide alone gets them wrong."""
    weights, means = torch.tensor([0.7, 0.3]).double(), torch.tensor([[-1.0, 0.5], [1.0, -0.5]]).double()
    world = sf.MixtureWorld(weights, means, 0.05 * torch.eye(2).double().expand(2, 2, 2))
    m = sf.Measurement(Matrix(torch.tensor([[1.0, 0.0]]).double()), torch.tensor([[0.1]]).double(), 0.7)
    D = world.denoiser(LinearBeta())
    D = D if known else MeanOnly(D)
    *_, last = TDS(steps=60, particles=200).trajectory(D, m.repeat(40), sf.Noise(0))
    x = pick(last.x, multinomial(last.memory.log_weight, sf.Noise(1))).flatten(0, 1)
    truth = world.posterior(m)
    assert float((x[:, 0] > 0).double().mean()) == pytest.approx(float(truth.weights[1]), abs=0.04)
    torch.testing.assert_close(x.mean(0), truth.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), truth.cov, atol=0.08, rtol=0)


@pytest.mark.parametrize("process", [LinearBeta(), EDM()], ids=lambda p: type(p).__name__)
def test_one_particle_is_the_guided_sampler(world, matrix, process):
    m, times = sf.Measurement(matrix, torch.ones(2, 2).double(), 0.3), (0.9, 0.7, 0.5, 0.2)
    D = MeanOnly(world.denoiser(process))
    x1 = sf.Noise(9).normal(torch.zeros(2, 3).double())
    guided = PiGDMScore(sampler=Ancestral()).trajectory(D, m, sf.Seeds([1, 2]), x1=x1, times=times)

    class NoChoice(sf.Seeds):
        def uniform(self, like):
            return torch.zeros_like(like)

    single = TDS(particles=1).trajectory(D, m, NoChoice([1, 2]), x1=x1[:, None], times=times)
    for a, b in zip(guided, single, strict=True):
        torch.testing.assert_close(b.x[:, 0], a.x, atol=1e-10, rtol=0)


def test_the_last_kernel_is_never_a_point(world, matrix):
    """Its std is `last` where the reverse law has none, and no less than that where it has."""
    m, x = sf.Measurement(matrix, torch.ones(1, 2).double(), 0.3), torch.zeros(1, 4000, 3).double()
    for D, floor in ((MeanOnly(world.denoiser(LinearBeta())), 0.02), (world.denoiser(LinearBeta()), 0.5)):
        solver = TDS(particles=4000, last=floor, threshold=0.0)
        xs, _ = solver.step(D, m, x, 0.05, 0.0, solver.init(D, m, x), sf.Noise(0))
        assert float(xs[0].std(0).mean()) == pytest.approx(floor, rel=0.03)


def test_states_without_signal_and_any_operator():
    """alpha(1) = 0; and |x|, whose posterior has two modes of equal weight."""
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double())
    m = sf.Measurement(Function(lambda x: x.abs(), (1,)), torch.ones(1, 1).double(), 0.3)
    *_, last = TDS(steps=60, particles=1000).trajectory(world.denoiser(Rectified()), m, sf.Noise(0))
    x = pick(last.x, multinomial(last.memory.log_weight, sf.Noise(1)))
    grid = torch.linspace(0, 4, 4001).double()
    weight = torch.softmax(-0.5 * grid**2 - 0.5 * (1 - grid) ** 2 / 0.09, 0)
    assert float(x.abs().mean()) == pytest.approx(float((weight * grid).sum()), abs=0.05)
    assert float((x > 0).double().mean()) == pytest.approx(0.5, abs=0.15)


def test_noiseless_measurements_are_an_error(world, matrix):
    m = sf.Measurement(matrix, torch.ones(1, 2).double(), 0.0)
    with pytest.raises(ValueError, match=r"TDS weighs by p\(y . x_0\), which needs sigma_y > 0\. Use FPSSMC"):
        TDS()(world.denoiser(LinearBeta()), m, sf.Noise(0))


def test_defaults():
    s = TDS()
    assert (s.steps, s.particles, s.threshold, s.last) == (100, 64, 0.5, 0.01)
