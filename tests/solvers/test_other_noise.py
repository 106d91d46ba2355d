"""Counts and speckle in the solvers that follow a gradient, against posteriors on a grid; the others refuse them."""

import math

import pytest
import torch
from torch.distributions import Gamma, Poisson

import sfumato as sf
from sfumato import operators as ops
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.solvers import DAPS, DDRM, DPS, TDS, DiffPIR, PnPDM, REDDiff
from sfumato.solvers.conditional import langevin
from sfumato.solvers.daps import Conditional


def density(law, y, c):
    """log p(y | c), from another library."""
    if isinstance(law, ops.Poisson):
        return Poisson(law.peak * c).log_prob(law.peak * y)
    return Gamma(torch.full_like(c, law.looks), law.looks / c).log_prob(y)


@pytest.mark.parametrize("solver", [DDRM(), DiffPIR(), Conditional(), sf.solvers.MMPS(), sf.solvers.GDP()])
def test_other_solvers_refuse(solver):
    world = sf.GaussianWorld(torch.ones(2).double(), torch.eye(2).double())
    m = Measurement(ops.Identity(), torch.ones(1, 2).double(), likelihood=ops.Poisson(5.0))
    with pytest.raises(TypeError, match=f"{type(solver).__name__} is made for white Gaussian noise, got Poisson"):
        solver(world.denoiser(sf.processes.LinearBeta()), m, Noise(0))


@pytest.fixture(scope="module")
def dim():
    """One number N(1, 0.2^2), seen once; by counts of 10 at 1, and through speckle of 5 looks."""
    mean, var = torch.ones(1).double(), torch.full((1, 1), 0.04).double()
    world, grid = sf.GaussianWorld(mean, var), torch.linspace(0.05, 2.5, 5001).double()

    def posterior(law, y):
        log = density(law, torch.tensor(y, dtype=torch.float64), grid) - 0.5 * (grid - 1.0) ** 2 / 0.04
        log = log - 0.5 * math.log(2 * math.pi * 0.04)
        step = float(grid[1] - grid[0])
        evidence = float(log.logsumexp(0)) + math.log(step)
        p = (log - evidence).exp() * step
        m = float((p * grid).sum())
        return m, float((p * (grid - m) ** 2).sum()), evidence

    return world, posterior


CASES = [(ops.Poisson(10.0), 1.7), (ops.Speckle(5.0), 1.6)]


@pytest.mark.parametrize(("law", "y"), CASES)
def test_particles_find_the_posterior_and_the_evidence(dim, law, y):
    world, posterior = dim
    mean, var, evidence = posterior(law, y)
    assert abs(mean - 1.0) > 0.3 * 0.2  # y says something
    m = Measurement(ops.Identity(), torch.full((1, 1), y).double(), likelihood=law)
    *_, last = TDS(steps=60, particles=4000).trajectory(world.denoiser(sf.processes.LinearBeta()), m, Noise(2))
    w = last.memory.log_weight.softmax(1)
    got = float((w * last.x[..., 0]).sum())
    n = 1 / float((w**2).sum())
    assert got == pytest.approx(mean, abs=4 * (var / n) ** 0.5 + 0.004)
    assert float((w * (last.x[..., 0] - got) ** 2).sum()) == pytest.approx(var, rel=4 * (2 / n) ** 0.5 + 0.02)
    assert float(last.memory.log_evidence) == pytest.approx(evidence, abs=0.03)


@pytest.mark.parametrize(("law", "y"), CASES)
def test_langevin_and_split_gibbs_move_towards_the_posterior(dim, law, y):
    world, posterior = dim
    mean, var, _ = posterior(law, y)
    m = Measurement(ops.Identity(), torch.full((1500, 1), y).double(), likelihood=law)
    x = langevin(m, torch.ones(1500, 1).double(), 0.2, Noise(1), sigma=9.0, moves=400, size=1e-3)
    assert float(x.mean()) == pytest.approx(mean, abs=4 * (var / 1500) ** 0.5 + 0.01)
    assert float(x.var()) == pytest.approx(var, rel=4 * (2 / 1500) ** 0.5 + 0.04)
    D = world.denoiser(sf.processes.EDM())
    gibbs = PnPDM(steps=40, rho=0.1, first=1.0, prior_steps=20, size=1e-3, moves=60)
    x = gibbs(D, m, Noise(3))
    assert float(x.mean()) == pytest.approx(mean, abs=0.02) and float(x.var()) == pytest.approx(var, rel=0.25)
    # the draw of DAPS at the level of the prior is the same law: its tau plays no part
    t = D.process.time_of(-2 * math.log(0.2))
    x = DAPS(size=1e-3, moves=400).draw(D, m, torch.ones_like(m.y), t, 0.0, Noise(4))
    assert float(x.mean()) == pytest.approx(mean, abs=4 * (var / 1500) ** 0.5 + 0.01)


def test_dps_weighs_residuals_by_what_the_counts_say(given):
    """On N(0, I) D = alpha x, so the gradient is -alpha w r / |sqrt(w) r|, w the inverse variances over their mean."""
    world = sf.GaussianWorld(torch.zeros(3).double(), torch.eye(3).double())
    process = sf.processes.LinearBeta()
    y, x = torch.tensor([[0.5, 2.0, 0.0]]).double(), torch.tensor([[0.4, -1.0, 0.7]]).double()
    A, t = ops.Mask(torch.tensor([1.0, 1.0, 0.0])), 0.3
    r, alpha = y - process.alpha(t) * x * A.mask, process.alpha(t)
    w = torch.tensor([[4.0, 1.0, 0.0]]).double() / 2.5
    steps = []
    for law in (ops.Poisson(7.0), None):
        m = Measurement(A, y, likelihood=law)
        out, _ = DPS(zeta=0.2).step(world.denoiser(process), m, x, t, 0.2, None, given(torch.zeros_like(x)))
        steps.append(out)
    pull = [alpha * v * r / (v * r**2).sum().sqrt() for v in (w, A.mask.double())]
    torch.testing.assert_close(steps[0] - steps[1], 0.2 * (pull[0] - pull[1]), rtol=0, atol=1e-12)


def test_red_diff_goes_down_minus_the_log_likelihood(given):
    """Without a prior the first move of Adam is lr in the direction of the data, whatever the reduction."""
    world = sf.GaussianWorld(torch.zeros(2).double(), torch.eye(2).double())
    m = Measurement(ops.Identity(), torch.tensor([[2.0, 0.5]]).double(), likelihood=ops.Poisson(7.0))
    D, x = world.denoiser(sf.processes.LinearBeta()), torch.ones(1, 2).double()
    for reduction in ("mean", "sum"):
        solver = REDDiff(lr=0.1, lambda_=0.0, reduction=reduction)
        out, moments = solver.step(D, m, x, 0.5, 0.4, None, given(torch.zeros_like(x)))
        torch.testing.assert_close(out - x, torch.tensor([[0.1, -0.1]]).double(), rtol=0, atol=1e-6)
        gradient = 7.0 * (1.0 - m.y) / (2 if reduction == "mean" else 1)
        torch.testing.assert_close(moments.first, 0.1 * gradient, rtol=1e-9, atol=0)
