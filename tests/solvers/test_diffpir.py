import math
from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import LinearFunction, Mask, Matrix
from sfumato.processes import LinearBeta, Rectified
from sfumato.solvers import DDNM, DiffPIR


def _measured(world, A, sigma=0.1):
    return sf.Measurement.simulate(A, world.sample(3, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


def _run(solver, D, m, times, dtype=torch.float64):
    x1 = sf.Noise(9).normal(torch.zeros(len(m), 3).double()).to(dtype)
    return [step.x for step in solver.trajectory(D, m, sf.Noise(0), x1=x1, times=times)]


def test_all_weight_on_the_prior_is_the_prior_sampler(world, matrix):
    """lambda to infinity: the fixed-ratio step alone, which is what DDNM does where nothing is seen."""
    D, times = world.denoiser(LinearBeta()), grids.uniform(10)
    blind = sf.Measurement(Matrix(torch.zeros(2, 3).double()), torch.zeros(3, 2).double(), sigma=0.0)
    got = _run(DiffPIR(lambda_=1e14, zeta=0.36), D, _measured(world, matrix), times)[-1]
    torch.testing.assert_close(got, _run(DDNM(eta=0.6), D, blind, times)[-1], atol=1e-8, rtol=0)


@pytest.mark.parametrize("process", [LinearBeta(), Rectified()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("wrapped", [False, True], ids=["spectral", "linear"])
def test_without_measurement_noise_it_projects_as_ddnm(world, matrix, process, wrapped):
    """sigma_y to 0 and all noise fresh, so that no eps_hat tells them apart: DDNM's step."""
    A = LinearFunction(lambda x: x @ matrix.A.to(x.dtype).T, (3,)) if wrapped else matrix
    m, D, times = _measured(world, A, sigma=0.0), world.denoiser(process), (1.0, 0.7, 0.4, 0.1)
    got = _run(DiffPIR(zeta=1.0, floor=1e-9), D, m, times)
    want = _run(DDNM(eta=1.0), D, m, times)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=0)


def test_the_noise_is_recomputed_from_the_corrected_estimate(world, matrix):
    """zeta = 0: (x_s - alpha_s D_y) / sigma_s = (x_t - alpha_t D_y) / sigma_t, D_y the minimiser of the sum."""
    process, t, s, sigma, weight = LinearBeta(), 0.6, 0.5, 0.1, 3.0
    m, D = _measured(world, matrix, sigma), world.denoiser(process)
    xt = sf.Noise(9).normal(torch.zeros(3, 3).double())
    xs, _ = DiffPIR(lambda_=weight, zeta=0.0).step(D, m, xt, t, s, None, sf.Noise(0))
    rho = weight * sigma**2 / (process.sigma(t) / process.alpha(t)) ** 2
    A, prior = matrix.A, D(xt, t).mean
    corrected = torch.linalg.solve(A.T @ A + rho * torch.eye(3).double(), (m.y @ A + rho * prior).T).T
    eps_s = (xs - process.alpha(s) * corrected) / process.sigma(s)
    eps_t = (xt - process.alpha(t) * corrected) / process.sigma(t)
    torch.testing.assert_close(eps_s, eps_t, atol=1e-9, rtol=0)


def test_the_last_step_leaves_the_data_out(world, matrix):
    D, m = world.denoiser(LinearBeta()), _measured(world, matrix)
    xt = sf.Noise(9).normal(torch.zeros(3, 3).double())
    last, _ = DiffPIR().step(D, m, xt, 0.1, 0.0, None, sf.Noise(0))
    torch.testing.assert_close(last, D(xt, 0.1).mean)


def test_sigma_has_a_floor(world):
    """A noiseless mask counts as sigma_y = 0.001: (y + rho D) / (1 + rho)."""
    process, t, s = LinearBeta(), 0.02, 0.01
    D, m = world.denoiser(process), _measured(world, Mask(torch.ones(3)), sigma=0.0)
    xt = sf.Noise(9).normal(torch.zeros(3, 3).double())
    xs, _ = DiffPIR(lambda_=1e4, zeta=0.0).step(D, m, xt, t, s, None, sf.Noise(0))
    rho = 1e4 * 1e-6 * (process.alpha(t) / process.sigma(t)) ** 2
    corrected = (m.y + rho * D(xt, t).mean) / (1 + rho)
    eps = (xt - process.alpha(t) * corrected) / process.sigma(t)
    torch.testing.assert_close(xs, process.perturb(corrected, s, eps), atol=1e-12, rtol=0)


def test_a_tiny_weight_survives_float32(world, matrix):
    """rho = 4e-11 at the noisy end: what A does not see must not be swamped by rounding."""
    wide = Matrix(matrix.A.float())
    m = sf.Measurement.simulate(wide, world.sample(3, sf.Noise(5)).float(), sigma=0.0, noise=sf.Noise(6))
    D = world.denoiser(LinearBeta())
    got = _run(DiffPIR(), D, m, grids.uniform(10), torch.float32)[-1]
    exact = sf.Measurement(matrix, m.y.double(), 0.0)
    torch.testing.assert_close(got.double(), _run64(D, exact), atol=1e-3, rtol=0)


def _run64(D, m):
    """The same run in float64 from the same float32 numbers."""

    class Single(sf.Noise):
        def normal(self, like):
            return super().normal(like.float()).double()

    x1 = sf.Noise(9).normal(torch.zeros(len(m), 3).double()).float().double()
    return list(DiffPIR().trajectory(D, m, Single(0), x1=x1, times=grids.uniform(10)))[-1].x


def test_times(ddpm):
    """Quadratic: N - floor(sqrt(linspace(0, N^2, n))) levels, the first of the table last."""
    times = DiffPIR.inpainting().times(ddpm)
    levels = [round(1000 * t) for t in times]
    assert levels[:3] == [1000, 1000 - int(1000 * math.sqrt(1 / 19)), 1000 - int(1000 * math.sqrt(2 / 19))]
    assert levels[-2:] == [1, 0] and len(levels) == 21
    assert DiffPIR(steps=4, spacing="quad").times(Rectified()) == (
        1.0,
        0.5,
        1 - math.sqrt(0.5),
        1 - math.sqrt(0.75),
        0.0,
    )
    assert DiffPIR(steps=1, spacing="quad").times(ddpm) == (1.0, 0.0)
    assert DiffPIR(steps=2).times(Rectified()) == (1.0, 0.5, 0.0)
    assert DiffPIR(steps=2).times(ddpm) == (1.0, 0.001, 0.0)
    dense = DiffPIR(steps=1000, spacing="quad").times(ddpm)
    assert all(a > b for a, b in pairwise(dense))


def test_public_configurations():
    a, b = DiffPIR.inpainting(), DiffPIR.super_resolution()
    assert (a.steps, a.lambda_, a.zeta, a.spacing) == (20, 1.0, 1.0, "quad")
    assert (b.steps, b.lambda_, b.zeta, b.spacing) == (100, 1.0, 0.25, "linspace")


def test_fields_are_checked():
    with pytest.raises(ValueError, match="DiffPIR: zeta is a share, from 0 to 1, got 2"):
        DiffPIR(zeta=2.0)
    with pytest.raises(ValueError, match="spacing is linspace or quad, got 'log'"):
        DiffPIR(spacing="log")
