"""The exact law of a solver's samples where each of its steps is affine in state and noise (Gaussian data)."""

import math
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


class Basis(sf.Noise):
    """Unit vectors: every number that a step draws has a row of its own, after the rows of the state."""

    def __init__(self, first):
        self.at = first

    def normal(self, like):
        z, size = torch.zeros_like(like), like[0].numel()
        assert self.at + size <= len(z), "more numbers drawn than rows to follow them: raise `draws`"
        z[self.at : self.at + size] = torch.eye(size).to(like).reshape(size, *like.shape[1:])
        self.at += size
        return z


def _law(solver, denoiser, m, times=None, stop=None, draws=None):
    """Mean (d,) and covariance (d, d) of the state at times[stop] (the end by default), for one y, exactly.

    Each step is x' = P x + q + R z, z what it draws, at most `draws` numbers (two states by default): P, q and R come
    from running the solver itself on unit vectors, after row 0 of zeros.
    """
    (d,) = m.event
    rows = m.repeat(1 + d + (2 * d if draws is None else draws))
    x = torch.zeros(len(rows), d).double()
    x[1 : d + 1] = torch.eye(d).double()
    times = list(solver.times(denoiser.process) if times is None else times)
    first = solver.start(denoiser, rows, times[0], Basis(d + 1))
    mean, R = first[0], (first[d + 1 :] - first[0]).T
    cov = R @ R.T
    memory = solver.init(denoiser, rows, x)
    for t, s in list(pairwise(times))[:stop]:
        if s > t:
            up = denoiser.process.forward(x[1 : d + 1], t, s)
            mean, cov = up.mean.diag() * mean, up.mean @ cov @ up.mean.T + up.std**2 * torch.eye(d)
            continue
        out, memory = solver.step(denoiser, rows, x, t, s, memory, Basis(d + 1))
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


# Three scalar problems in one: prior variances 1, 0.1, 1 and noise 0.1, 0.1, 0.5 (0.1 through a gain of 0.2).
C = torch.tensor([1.0, 0.1, 1.0]).double()
NOISE = torch.tensor([0.1, 0.1, 0.5]).double()


@pytest.fixture(scope="session")
def scalars():
    world = sf.GaussianWorld(torch.zeros(3).double(), torch.diag(C))
    A = sf.operators.Matrix(torch.diag(0.1 / NOISE))
    return world, sf.Measurement(A, A(torch.ones(1, 3).double()), sigma=0.1)


@pytest.fixture(scope="session")
def scalar_ratios():
    """Mean over the exact gain and variance over the exact one, at each of the three problems, (6,)."""

    def ratios(mean, cov):
        posterior = C * NOISE**2 / (C + NOISE**2)
        return torch.stack([mean / (C / (C + NOISE**2)), cov.diag() / posterior], 1).flatten()

    return ratios


@pytest.fixture(scope="session")
def pinned():
    i = torch.arange(4).double() + 0.5
    Q = math.sqrt(0.5) * torch.cos(math.pi / 4 * i[:, None] * i)
    cov = Q @ torch.diag(torch.tensor([1.0, 0.215, 0.0464, 0.01]).double()) @ Q.T
    world = sf.GaussianWorld(0.3 * torch.tensor([1.0, -1.0, 1.0, 1.0]).double(), cov)
    U = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double() / math.sqrt(2)
    V = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]]).double().T / 2
    A = sf.operators.Matrix(U @ torch.diag(torch.tensor([1.0, 0.25]).double()) @ V.T)
    x0 = world.sample(2000, sf.Noise(7))
    return world, sf.Measurement.simulate(A, x0, sigma=0.1, noise=sf.Noise(8)), V @ V.T


@pytest.fixture
def pinned_figures(pinned, ddpm):
    """Mean error, range ratio and null ratio of a solver on the pinned instance, and the spread of the first over y.

    The mean error of the experiment holds the sampling error of 200 draws.
    """
    world, m, range_ = pinned

    def figures(solver, times, draws=None, process=ddpm):
        D = world.denoiser(process)
        # The mean is affine in y: three measurements give it for all.
        ys = [sf.Measurement(m.operator, torch.tensor([y]).double(), m.sigma) for y in ((0, 0), (1, 0), (0, 1))]
        truth = world.posterior(ys[0])
        laws = [_law(solver, D, y, times, draws=draws) for y in ys]
        gaps = [mean - world.posterior(y).mean for (mean, _), y in zip(laws, ys, strict=True)]
        cov, spread = laws[0][1], float(truth.cov.trace())
        bias = gaps[0] + m.y @ torch.stack([gaps[1] - gaps[0], gaps[2] - gaps[0]])
        errors = ((bias**2).sum(1) + cov.trace() / 200).sqrt() / math.sqrt(spread)
        null = torch.eye(4).double() - range_
        seen, hidden = (float((part @ cov).trace() / (part @ truth.cov).trace()) for part in (range_, null))
        return (float(errors.mean()), seen, hidden), float(errors.std())

    return figures


@pytest.fixture
def basis():
    return Basis
