import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Function, Mask
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.solvers import MCG, RePaint


@pytest.fixture
def states():
    return sf.Noise(9).normal(torch.zeros(3, 3).double())


def test_without_the_gradient_it_is_the_projection(world, measured):
    D, times = world.denoiser(LinearBeta()), grids.uniform(8)
    runs = [list(v.trajectory(D, measured, sf.Noise(2), times=times))[-1].x for v in (MCG(zeta=0.0), RePaint())]
    torch.testing.assert_close(runs[0], runs[1], atol=0, rtol=0)


@pytest.mark.parametrize("process", [LinearBeta(), Rectified(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t, s", [(0.9, 0.8), (0.2, 0.0)])
def test_the_gradient_moves_the_null_space_alone(world, matrix, measured, states, process, t, s):
    """By zeta (I - P) alpha_t / sigma_t^2 C A^T r / |r| on Gaussian data, C = Cov[x_0 | x_t], r = y - A D: the norm's
    gradient, per sample."""
    D = world.denoiser(process)
    moved, free = (
        v.step(D, measured, states, t, s, v.init(D, measured, states), sf.Noise(2))[0]
        for v in (MCG(zeta=0.7), MCG(zeta=0.0))
    )
    r = measured.y - matrix(D(states, t).mean)
    pull = torch.einsum(
        "bij,bj->bi",
        world.covariance(states, t, process),
        matrix.adjoint(r / r.norm(dim=1, keepdim=True)),
    )
    pull = pull - matrix.project(pull)
    expected = 0.7 * process.alpha(t) / process.sigma(t) ** 2 * pull
    assert float(expected.abs().max()) > 1e-5
    torch.testing.assert_close(moved - free, expected, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("process", [LinearBeta(), Rectified()], ids=lambda p: type(p).__name__)
def test_what_was_seen_is_met(world, matrix, measured, process):
    """Exactly, and so with its noise: the spread along A is 0 where the posterior has some."""
    x = MCG(steps=10)(world.denoiser(process), measured, sf.Noise(0))
    torch.testing.assert_close(matrix(x), measured.y, atol=1e-12, rtol=0)
    masked = sf.Measurement.simulate(
        Mask(torch.tensor([1.0, 0.0, 1.0])), world.sample(2, sf.Noise(1)), sigma=0.0, noise=sf.Noise(0)
    )
    x = MCG(steps=10)(world.denoiser(process), masked, sf.Noise(0))
    assert torch.equal(x[:, ::2], masked.y[:, ::2])


def test_defaults(ddpm):
    assert MCG().zeta == 1.0
    assert MCG().times(ddpm) == tuple(n / 1000 for n in range(1000, -1, -1))


def test_no_graph_is_kept(world, measured, states):
    x, _ = MCG().step(
        world.denoiser(LinearBeta()), measured, states, 0.5, 0.4, measured.operator.pinv(measured.y), sf.Noise(2)
    )
    assert not x.requires_grad and not states.requires_grad


def test_batches(world, measured, alone):
    alone(MCG(steps=8), world.denoiser(LinearBeta()), measured)


def test_needs_a_linear_operator(world):
    bent = sf.Measurement(Function(lambda x: x.abs(), (3,)), torch.ones(2, 3).double(), 0.0)
    with pytest.raises(TypeError, match="MCG needs a Linear operator"):
        MCG()(world.denoiser(LinearBeta()), bent, sf.Noise(0))
