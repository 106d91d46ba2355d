import pytest
import torch

import sfumato as sf
from sfumato.nets import RealNVP
from sfumato.operators import Mask, Matrix
from sfumato.processes import LinearBeta
from sfumato.solvers import ScorePrior

EVENT = torch.zeros(1, 3).double()


def densities(world, process, t):
    """The law of x_t, which stands for clean data."""
    a, s = process.alpha(t), process.sigma(t)
    cov = a**2 * world.covs[0] + s**2 * torch.eye(3).double()
    return torch.distributions.MultivariateNormal(a * world.mean, cov)


@pytest.fixture
def world(world):
    """Without a mean, of which alpha(1) = 0.007 would be left where the density of the path ends."""
    return sf.GaussianWorld(torch.zeros(3).double(), world.covs[0])


@pytest.fixture
def still():
    """A flow that is the identity, and a parameter of which is told to move."""
    return RealNVP(3, 2, 4, noise=sf.Noise(0)).double()


@pytest.mark.parametrize("probes", [0, 6])
def test_the_objective_under_the_exact_density(world, matrix, measured, still, probes):
    """-log p(y | u) - log p(u) for the flow that is the identity, each term by hand, with its gradient in x: the score.

    The last shift of the flow adds to x, so its gradient is that of the objective in x, summed over rows.
    """
    process, one = LinearBeta(), measured.rows([0] * 6)
    solver = ScorePrior(points=40, probes=probes, start_time=1e-3)
    loss = solver.divergence(world.denoiser(process), one, still, sf.Noise(4), EVENT)
    u = sf.Noise(4).normal(torch.zeros(6, 3).double()).requires_grad_()
    truth = 0.5 * ((one.y - u @ matrix.A.T) / 0.1).square().sum(1) - densities(world, process, 1e-3).log_prob(u)
    if probes:  # an estimate: the trace of a symmetric Jacobian by few signs, unbiased
        assert 1e-3 < float((loss - truth).detach().abs().max()) < 1.5
        return
    torch.testing.assert_close(loss, truth, atol=2e-3, rtol=0)
    (g,), (want,) = torch.autograd.grad(loss.sum(), still.shift), torch.autograd.grad(truth.sum(), u)
    torch.testing.assert_close(g, want.sum(0), atol=1e-2, rtol=0)


def test_the_bound_is_tight_for_an_exact_denoiser(world, measured, still):
    process, one = LinearBeta(), measured.rows([0] * 400)
    solver = ScorePrior(prior="bound", points=200, start_time=1e-3)
    bound = solver.divergence(world.denoiser(process), one, still, sf.Noise(4), EVENT)
    exact = ScorePrior(points=60, probes=0).divergence(world.denoiser(process), one, still, sf.Noise(4), EVENT)
    gap = (bound - exact).detach()
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / 20 + 0.02


def test_volume_counts(world, measured, still):
    """Twice as wide everywhere: the objective at 2 u less 3 log 2."""
    D, one = world.denoiser(LinearBeta()), measured.rows([0] * 4)
    solver = ScorePrior(points=40, probes=0)
    still.log_scale.data.fill_(torch.tensor(2.0).log())
    loss = solver.divergence(D, one, still, sf.Noise(4), EVENT)
    x = 2 * sf.Noise(4).normal(torch.zeros(4, 3).double())
    plain = one.energy(x) - densities(world, LinearBeta(), 1e-3).log_prob(x)
    torch.testing.assert_close(loss, plain - 3 * torch.tensor(2.0).double().log(), atol=0, rtol=1e-5)


def test_the_posterior_of_a_gaussian(world, matrix):
    """Mean within a tenth of a standard deviation, and covariance, over the last of some hundred iterations."""
    m = sf.Measurement(matrix, torch.tensor([[0.4, -0.3]]).double(), 0.3)
    solver = ScorePrior(steps=300, prior="bound", points=4, lr=0.02, layers=4, width=8, batch=64)
    steps = list(solver.trajectory(world.denoiser(LinearBeta()), m.repeat(1000), sf.Noise(0)))
    assert len(steps[-1].memory.flows) == 1
    x = torch.cat([step.x for step in steps[-100:]])  # what Adam shakes, averages out
    truth = world.posterior(m)
    std = truth.cov.diag().sqrt()
    assert float(((x.mean(0) - truth.mean) / std).abs().max()) < 0.1
    error = (torch.cov(x.T) - truth.cov) / (std * std[:, None])
    assert float(error.abs().max()) < 0.1


def test_a_flow_for_each_y_whatever_the_batch(world, measured):
    """Samples of one y are rows of one flow; another y, or another operator, has another; nothing knows its batch."""
    D = world.denoiser(LinearBeta())
    solver = ScorePrior(steps=3, prior="bound", points=3, layers=2, width=4, lr=0.05, batch=5)
    rows = measured.rows([0, 2, 0])
    last = list(solver.trajectory(D, rows, sf.Seeds([3, 4, 5])))[-1]
    assert len(last.memory.flows) == 2 and last.memory.of[0] == last.memory.of[2] != last.memory.of[1]
    for i, seed in enumerate((3, 4, 5)):
        one = list(solver.trajectory(D, rows.rows([i]), sf.Seeds([seed])))[-1].x
        torch.testing.assert_close(last.x[i : i + 1], one, atol=1e-10, rtol=0)
    masks = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).double()
    empty = sf.Measurement(Mask(masks), torch.zeros(2, 3).double(), 0.1)
    assert len(solver.init(D, empty, torch.zeros(2, 3).double()).flows) == 2
    start = next(solver.trajectory(D, rows, sf.Seeds([3, 4, 5])))
    torch.testing.assert_close(start.x, sf.Seeds([3, 4, 5]).normal(torch.zeros(3, 3).double()))


def test_the_seed_is_that_of_the_training(world, measured):
    D, one = world.denoiser(LinearBeta()), measured.rows([0])
    few = {"steps": 2, "prior": "bound", "points": 2, "layers": 2, "width": 4, "lr": 0.05}
    a, b, c = (ScorePrior(**few, seed=k)(D, one, sf.Noise(1)) for k in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_gradients_are_clipped_and_weights_of_the_prior_left_alone(world, measured):
    """With a clip of nearly 0 Adam still moves, by its rate; the denoiser has no gradient."""

    class Weighted(sf.denoisers.Wrapper):
        def __init__(self, inner):
            super().__init__(inner)
            self.weight = torch.nn.Parameter(torch.ones(1).double())

        def forward(self, xt, t, cond=None):
            return sf.Estimate(self.weight * self.inner(xt, t).mean)

    D = Weighted(world.denoiser(LinearBeta()))
    solver = ScorePrior(steps=1, prior="bound", points=2, layers=2, width=4, lr=0.05, clip=0.5)
    last = list(solver.trajectory(D, measured.rows([0]), sf.Noise(1)))[-1]
    assert D.weight.grad is None
    norm = torch.stack([w.grad.norm() for w in last.memory.flows[0].parameters()]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)
    moved = last.memory.flows[0].shift.detach().abs()
    torch.testing.assert_close(moved, torch.full((3,), 0.05).double(), atol=1e-4, rtol=0)


def test_settings(world):
    s = ScorePrior()
    assert (s.steps, s.prior, s.lr, s.clip, s.batch, s.start_time) == (10000, "flow", 2e-4, 1.0, 32, 1e-3)
    with pytest.raises(ValueError, match="prior is flow or bound"):
        ScorePrior(prior="score")
    m = sf.Measurement(Matrix(torch.eye(3).double()), torch.zeros(1, 3).double(), 0.0)
    with pytest.raises(ValueError, match="state sigma"):
        ScorePrior(steps=1, points=2)(world.denoiser(LinearBeta()), m, sf.Noise(0))
