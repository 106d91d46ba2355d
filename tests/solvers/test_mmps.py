import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Identity, LinearFunction, Mask, Matrix
from sfumato.processes import EDM, Anchored, Cosine, Geometric, LinearBeta, Rectified, SubVP, Table
from sfumato.solvers import MMPS

PROCESSES = [LinearBeta(), Cosine(), Rectified(), EDM(), Geometric(), SubVP(), Table.linear()]
OPERATORS = [
    Identity(),
    Mask(torch.tensor([1.0, 0.0, 1.0])),
    Matrix(torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.4, 0.7]]).double()),
    LinearFunction(lambda x: x[:, :2] - 2 * x[:, 1:], (3,)),
    Matrix(torch.zeros(1, 3).double()),
]


def _measured(world, A, sigma):
    return sf.Measurement.simulate(A, world.sample(1, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("A", OPERATORS, ids=lambda A: type(A).__name__)
@pytest.mark.parametrize("sigma", [0.0, 0.1, 2.0])
def test_exact_on_gaussian_data(world, process, A, sigma):
    m = _measured(world, A, sigma)
    guided, exact = (
        MMPS(iterations=12).guide(world.denoiser(process), m.repeat(2)),
        world.posterior(m).denoiser(process),
    )
    for t in (0.95, 0.5, 0.05):
        x = process.marginal(world.sample(2, sf.Noise(1)), t).sample(sf.Noise(2))
        torch.testing.assert_close(guided(x, t).mean, exact(x, t).mean, atol=1e-8, rtol=0)


@pytest.mark.parametrize("process", [Rectified(), Cosine()], ids=lambda p: type(p).__name__)
def test_where_the_state_holds_no_data_it_is_the_posterior_mean(world, matrix, process):
    m = _measured(world, matrix, 0.1)
    x, guided = sf.Noise(1).normal(torch.zeros(2, 3).double()), MMPS().guide(world.denoiser(process), m.repeat(2))
    mean = world.posterior(m).mean.expand(2, 3)
    torch.testing.assert_close(guided(x, 1.0).mean, mean, atol=1e-3, rtol=0)
    times = torch.tensor([1.0, 0.3], dtype=torch.float64)
    both = guided(x, times).mean
    torch.testing.assert_close(both[0], mean[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(both[1], guided(x, 0.3).mean[1], atol=1e-10, rtol=0)


def test_a_time_per_sample(world, matrix):
    m = _measured(world, matrix, 0.1)
    x, guided = sf.Noise(1).normal(torch.zeros(2, 3).double()), MMPS().guide(world.denoiser(EDM()), m.repeat(2))
    both = guided(x, torch.tensor([0.7, 0.2], dtype=torch.float64)).mean
    one_by_one = torch.stack([guided(x, t).mean[i] for i, t in enumerate((0.7, 0.2))])
    torch.testing.assert_close(both, one_by_one, atol=1e-10, rtol=0)


def test_an_anchor_and_an_elementwise_scale(world, matrix):
    process = Anchored(
        LinearBeta(), torch.tensor([[1.0, -1.0, 0.0]]).double(), torch.tensor([[0.5, 1.0, 2.0]]).double()
    )
    m = _measured(world, matrix, 0.1)
    x = sf.Noise(1).normal(torch.zeros(2, 3).double())
    guided, exact = MMPS().guide(world.denoiser(process), m.repeat(2)), world.posterior(m).denoiser(process)
    torch.testing.assert_close(guided(x, 0.4).mean, exact(x, 0.4).mean, atol=1e-8, rtol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_a_hundred_steps_give_the_posterior(world, matrix, affine_law, process):
    m = _measured(world, matrix, 0.1)
    mean, cov = affine_law(MMPS(), world.denoiser(process), m)
    truth = world.posterior(m)
    if process.sigma(0.0) > 0.0:
        cov = cov - process.sigma(0.0) ** 2 * torch.eye(3).double()
    torch.testing.assert_close(mean, truth.mean, atol=0.02 * float(truth.cov.trace()) ** 0.5, rtol=0)
    directions = torch.linalg.eigh(truth.cov)[1]
    for v in (*torch.eye(3).double(), *directions.T):
        assert float(v @ cov @ v) == pytest.approx(float(v @ truth.cov @ v), rel=0.1)


def test_too_few_iterations_go_part_of_the_way(world):
    """One iteration is one conjugate-gradient step: better than none, short of the answer in three directions."""
    m = _measured(world, Identity(), 0.05)
    D, x = world.denoiser(LinearBeta()), sf.Noise(1).normal(torch.zeros(1, 3).double())
    exact = world.posterior(m).denoiser(LinearBeta())(x, 0.5).mean
    errors = [float((MMPS(iterations=n).guide(D, m)(x, 0.5).mean - exact).norm()) for n in (1, 2, 3)]
    assert errors[0] > errors[1] > 1e-6 > errors[2]


def test_negative_curvature_stops_a_row_and_no_other(world):
    """A network's Jacobian need not be positive: the guided mean stays finite, and that row keeps D."""

    class Bent(sf.denoisers.Denoiser):
        process = LinearBeta()

        def forward(self, xt, t, cond=None):
            return sf.Estimate(torch.where(xt > 0, 2.0 * xt, -3.0 * xt))

    m = sf.Measurement(Identity(), torch.ones(2, 1).double(), sigma=0.1)
    x = torch.tensor([[1.0], [-1.0]]).double()
    got = MMPS().guide(Bent(), m)(x, 0.3).mean
    C = 2.0 * LinearBeta().sigma(0.3) ** 2 / LinearBeta().alpha(0.3)
    assert float(got[0]) == pytest.approx(2.0 + C / (C + 0.01) * (1.0 - 2.0))
    assert float(got[1]) == 3.0


def test_calls_and_gradients(world, matrix):
    """One call of the network, and a result without gradient even where gradients are on."""
    m, counted = _measured(world, matrix, 0.1), sf.denoisers.Counted(world.denoiser(EDM()))
    guided = MMPS().guide(counted, m)
    x = torch.zeros(1, 3).double().requires_grad_()
    with torch.enable_grad():
        estimate = guided(x, 0.5)
    assert counted.calls == 1 and not estimate.mean.requires_grad and x.grad is None


def test_conditions_reach_network_and_process(world, matrix):
    anchor = torch.tensor([[1.0, -1.0, 0.0]]).double()
    m, x = _measured(world, matrix, 0.1), sf.Noise(1).normal(torch.zeros(1, 3).double())
    free = MMPS().guide(world.denoiser(Anchored(LinearBeta())), m)
    bound = MMPS().guide(world.denoiser(Anchored(LinearBeta(), anchor)), m)
    torch.testing.assert_close(free(x, 0.4, anchor).mean, bound(x, 0.4).mean, atol=1e-12, rtol=0)


def test_defaults():
    solver = MMPS()
    assert (solver.steps, solver.iterations) == (100, 5)
    assert solver.times(EDM()) == grids.log_snr(EDM(), 100)
    with pytest.raises(ValueError, match="iterations is at least 1, got 0"):
        MMPS(iterations=0)
