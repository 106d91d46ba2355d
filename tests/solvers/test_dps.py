import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import MeanOnly
from sfumato.operators import Function
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.samplers import Ancestral
from sfumato.solvers import DPS


@pytest.fixture
def states():
    return sf.Noise(9).normal(torch.zeros(3, 3).double())


def _measured(world, A, sigma=0.1):
    return sf.Measurement.simulate(A, world.sample(3, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


def test_without_guidance_it_is_the_prior_sampler(world, matrix, states):
    times = grids.uniform(8)
    D = world.denoiser(LinearBeta())
    guided = list(DPS(zeta=0.0).trajectory(D, _measured(world, matrix), sf.Noise(1), x1=states, times=times))[-1].x
    free = sf.sample(MeanOnly(D), Ancestral(), x1=states, times=times, noise=sf.Noise(1))
    torch.testing.assert_close(guided, free, atol=0, rtol=0)


@pytest.mark.parametrize("process", [LinearBeta(), EDM(), Rectified()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t, s", [(0.9, 0.8), (0.4, 0.3), (0.1, 0.0)])
def test_the_gradient_is_that_of_theory(world, matrix, states, process, t, s):
    """On Gaussian data x_s moves by zeta alpha_t / sigma_t^2 C A^T r / |r|, C = Cov[x_0 | x_t], r = y - A D."""
    m, D = _measured(world, matrix), world.denoiser(process)
    moved, free = (DPS(zeta=z).step(D, m, states, t, s, None, sf.Noise(2))[0] for z in (0.7, 0.0))
    r = m.y - matrix(D(states, t).mean)
    C = world.covariance(states, t, process)
    pull = torch.einsum("bij,bj->bi", C, matrix.adjoint(r / r.norm(dim=1, keepdim=True)))
    expected = 0.7 * process.alpha(t) / process.sigma(t) ** 2 * pull
    torch.testing.assert_close(moved - free, expected, atol=1e-9, rtol=1e-7)


def test_any_differentiable_operator(world, states):
    """The gradient through |x| agrees with finite differences of the residual's norm."""
    A, process, t = Function(lambda x: x.abs(), (3,)), LinearBeta(), 0.5
    m, D = _measured(world, A), world.denoiser(process)
    moved, free = (DPS(zeta=z).step(D, m, states, t, 0.4, None, sf.Noise(2))[0] for z in (1.0, 0.0))
    h = 1e-6
    for j in range(3):
        e = h * torch.eye(3).double()[j]
        up, down = (m.residual(D(states + v, t).mean).norm(dim=1) for v in (e, -e))
        torch.testing.assert_close((free - moved)[:, j], (up - down) / (2 * h), atol=1e-7, rtol=1e-6)


def test_scalar_measurements(world, states):
    """A measurement may be one number: y is (B,)."""
    total = Function(lambda x: x.sum(1), (3,))
    m = _measured(world, total)
    x, _ = DPS(zeta=0.5).step(world.denoiser(LinearBeta()), m, states, 0.5, 0.4, None, sf.Noise(2))
    assert torch.isfinite(x).all() and m.y.shape == (3,)


def test_the_variance_of_the_denoiser_is_not_used(world, matrix, states):
    m, D = _measured(world, matrix), world.denoiser(LinearBeta())
    a, b = (DPS().step(d, m, states, 0.5, 0.4, None, sf.Noise(2))[0] for d in (D, MeanOnly(D)))
    torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_no_graph_is_kept(world, matrix, states):
    x, _ = DPS().step(world.denoiser(LinearBeta()), _measured(world, matrix), states, 0.5, 0.4, None, sf.Noise(2))
    assert not x.requires_grad and not states.requires_grad


def test_scales_and_times_of_the_public_configurations(ddpm):
    assert (DPS().zeta, DPS.inpainting().zeta, DPS.phase_retrieval().zeta) == (0.3, 0.5, 1.0)
    assert DPS().times(ddpm) == tuple(n / 1000 for n in range(1000, -1, -1))
    assert DPS(steps=3).times(ddpm) == (1.0, 0.501, 0.001, 0.0)
    assert DPS(steps=2).times(EDM()) == (1.0, 0.5, 0.0)
