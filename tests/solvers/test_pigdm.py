import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Identity, LinearFunction, Mask, Matrix
from sfumato.processes import EDM, Anchored, LinearBeta, Rectified, Table
from sfumato.solvers import PiGDM, PiGDMScore

PROCESSES = [LinearBeta(), Rectified(), EDM(), Table.linear()]
OPERATORS = [
    Identity(),
    Mask(torch.tensor([1.0, 0.0, 1.0])),
    Matrix(torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.4, 0.7]]).double()),
    LinearFunction(lambda x: x[:, :2] - 2 * x[:, 1:], (3,)),
    Matrix(torch.zeros(1, 3).double()),
]


def _measured(world, A, sigma, n=1):
    return sf.Measurement.simulate(A, world.sample(n, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


@pytest.mark.parametrize("c", [1.0, 0.3])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("A", OPERATORS, ids=lambda A: type(A).__name__)
@pytest.mark.parametrize("sigma", [0.0, 0.1, 2.0])
def test_the_score_form_is_exact_on_white_data(process, A, sigma, c):
    world = sf.GaussianWorld(torch.zeros(3).double(), c * torch.eye(3).double())
    m = _measured(world, A, sigma)
    guided = PiGDMScore(prior_var=c).guide(world.denoiser(process), m.repeat(2))
    exact = world.posterior(m).denoiser(process)
    for t in (0.95, 0.5, 0.05):
        x = process.marginal(world.sample(2, sf.Noise(1)), t).sample(sf.Noise(2))
        torch.testing.assert_close(guided(x, t).mean, exact(x, t).mean, atol=1e-10, rtol=0)


def test_the_score_form_where_the_state_holds_no_data(matrix):
    world = sf.GaussianWorld(torch.zeros(3).double(), torch.eye(3).double())
    m = _measured(world, matrix, 0.1)
    x = sf.Noise(1).normal(torch.zeros(1, 3).double())
    got = PiGDMScore().guide(world.denoiser(Rectified()), m)(x, 1.0).mean[0]
    torch.testing.assert_close(got, world.posterior(m).mean, atol=1e-3, rtol=0)


def _states(n=2):
    return sf.Noise(9).normal(torch.zeros(n, 3).double())


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t, s", [(0.9, 0.8), (0.3, 0.2), (0.1, 0.0)])
def test_the_guidance_of_algorithm_1(world, matrix, process, t, s):
    """x_s moves by weight alpha_t r_t^2 g, g = alpha_t / sigma_t^2 C A^T (r_t^2 A A^T + sigma^2)^{-1} (y - A D)."""
    m, D = _measured(world, matrix, 0.2, n=2), world.denoiser(process)
    moved, free = (PiGDM(weight=w).step(D, m, _states(), t, s, None, sf.Noise(2))[0] for w in (0.7, 0.0))
    level = process.sigma(t) / process.alpha(t)
    r2, A = level**2 / (1 + level**2), matrix.A
    seen = torch.linalg.solve(r2 * A @ A.T + 0.04 * torch.eye(2).double(), (m.y - D(_states(), t).mean @ A.T).T).T
    C = world.covariance(_states(), t, process)
    g = process.alpha(t) / process.sigma(t) ** 2 * torch.einsum("bij,bj->bi", C, seen @ A)
    torch.testing.assert_close(moved - free, 0.7 * process.alpha(t) * r2 * g, atol=1e-10, rtol=1e-8)
    mean_only = sf.Estimate(D(_states(), t).mean)
    torch.testing.assert_close(free, process.reverse(mean_only, _states(), t, s).sample(sf.Noise(2)))


def test_eta_is_that_of_ddim(world, matrix):
    m, D = _measured(world, matrix, 0.2, n=2), world.denoiser(EDM())
    a, b = (PiGDM(eta=0.0).step(D, m, _states(), 0.5, 0.4, None, sf.Noise(k))[0] for k in (1, 2))
    torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_start(world, matrix, given):
    """alpha_1 A^+ y + sigma_1 z, and the anchor's share where the process has one."""
    m, z = _measured(world, matrix, 0.2, n=2), torch.ones(2, 3).double()
    process = Anchored(Rectified(), torch.full((1, 3), 2.0).double())
    x = PiGDM().start(world.denoiser(process), m, 0.25, given(z))
    torch.testing.assert_close(x, 0.75 * m.y @ torch.linalg.pinv(matrix.A).T + 0.25 * 2.0 + 0.25 * z)


@pytest.mark.parametrize("solver", [PiGDM(steps=50), PiGDMScore(steps=50)], ids=lambda s: type(s).__name__)
def test_noiseless_measurements_are_met(matrix, solver):
    world = sf.GaussianWorld(torch.zeros(3).double(), torch.eye(3).double())
    m = _measured(world, matrix, 0.0, n=4)
    x = solver(world.denoiser(LinearBeta()), m, sf.Noise(0))
    torch.testing.assert_close(matrix(x), m.y, atol=0.03, rtol=0)


def test_defaults(ddpm):
    a, b = PiGDM(), PiGDMScore()
    assert (a.steps, a.eta, a.weight, b.prior_var) == (100, 1.0, 1.0, 1.0)
    assert PiGDM(steps=3).times(ddpm) == (1.0, 0.501, 0.001, 0.0)
    assert b.times(EDM()) == grids.log_snr(EDM(), 100)
    with pytest.raises(ValueError, match="prior_var is a variance, above 0, got 0"):
        PiGDMScore(prior_var=0.0)
