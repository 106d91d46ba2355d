"""The exact law of a solver's samples where each of its steps is affine in state and noise (Gaussian data)."""

from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato.processes import Table


class Given(sf.Noise):
    """A stream that gives the same numbers at every draw."""

    def __init__(self, z):
        self.z = z

    def normal(self, like):
        return self.z


def _unit(d):
    """Rows 0, e_1 .. e_d for the state and, after them, e_1 .. e_d for the noise."""
    zero, eye = torch.zeros(1, d).double(), torch.eye(d).double()
    return torch.cat([zero, eye, 0 * eye]), torch.cat([zero, 0 * eye, eye])


def _law(solver, denoiser, m, times=None, stop=None):
    """Mean (d,) and covariance (d, d) of the state at times[stop] (the end by default), for one y, exactly.

    Each step is x' = P x + q + R z: P, q and R come from running the solver itself on unit vectors.
    """
    (d,) = m.event
    x, z = _unit(d)
    rows = m.repeat(2 * d + 1)
    times = list(solver.times(denoiser.process) if times is None else times)
    first = solver.start(denoiser, rows, times[0], Given(z))
    mean, R = first[0], (first[d + 1 :] - first[0]).T
    cov = R @ R.T
    memory = solver.init(denoiser, rows, x)
    for t, s in list(pairwise(times))[:stop]:
        if s > t:
            up = denoiser.process.forward(x[1 : d + 1], t, s)
            mean, cov = up.mean.diag() * mean, up.mean @ cov @ up.mean.T + up.std**2 * torch.eye(d)
            continue
        out, _ = solver.step(denoiser, rows, x, t, s, memory, Given(z))
        q, P, R = out[0], (out[1 : d + 1] - out[0]).T, (out[d + 1 :] - out[0]).T
        mean, cov = P @ mean + q, P @ cov @ P.T + R @ R.T
    return mean, cov


@pytest.fixture
def affine_law():
    return _law


@pytest.fixture
def given():
    return Given


@pytest.fixture
def alone():
    """Asserts that each row of a run is what a batch of that row alone gives."""

    def check(solver, denoiser, m):
        both = solver(denoiser, m, sf.Seeds(range(3, 3 + len(m))))
        for i in range(len(m)):
            one = sf.Measurement(m.operator, m.y[i : i + 1], m.sigma)
            torch.testing.assert_close(both[i : i + 1], solver(denoiser, one, sf.Seeds([3 + i])), atol=1e-12, rtol=0)

    return check


@pytest.fixture
def measured(world, matrix):
    """Three noisy measurements of the correlated Gaussian."""
    return sf.Measurement.simulate(matrix, world.sample(3, sf.Noise(5)), sigma=0.1, noise=sf.Noise(6))


@pytest.fixture(scope="session")
def pair():
    """Two numbers of unit variance and correlation 0.8, the first of them seen as 1.3."""
    world = sf.GaussianWorld(torch.zeros(2).double(), torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double())
    y = torch.tensor([[1.3, 0.0]], dtype=torch.float64)
    return world, sf.Measurement(sf.operators.Mask(torch.tensor([1.0, 0.0])), y, 0.0)


@pytest.fixture(scope="session")
def ddpm():
    return Table.linear()


@pytest.fixture(scope="session")
def world():
    """A correlated Gaussian in three dimensions, with a mean."""
    B = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.3, 0.2, 0.3]]).double()
    return sf.GaussianWorld(torch.tensor([0.3, -0.5, 0.2]).double(), B @ B.T)


@pytest.fixture(scope="session")
def matrix():
    """Two measurements of three numbers, singular values neither 1 nor equal."""
    return sf.operators.Matrix(torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.4, 0.7]]).double())
