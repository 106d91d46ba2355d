import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Mask, Matrix
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.solvers import TMPD


def _measured(world, A, sigma):
    return sf.Measurement.simulate(A, world.sample(1, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


@pytest.mark.parametrize("process", [LinearBeta(), EDM(), Rectified()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_exact_where_row_sums_act_as_the_matrix(process, sigma):
    """A mask and a diagonal covariance; and an exchangeable covariance seen as one mean."""
    diagonal = sf.GaussianWorld(torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 0.3, 0.1]).double()))
    alike = sf.GaussianWorld(torch.zeros(3).double(), 0.2 * torch.eye(3).double() + 0.5)
    for world, A in ((diagonal, Mask(torch.tensor([1.0, 0.0, 1.0]))), (alike, Matrix(torch.ones(1, 3).double() / 3))):
        m = _measured(world, A, sigma)
        guided, exact = TMPD().guide(world.denoiser(process), m), world.posterior(m).denoiser(process)
        for t in (0.9, 0.4):
            x = process.marginal(world.sample(1, sf.Noise(1)), t).sample(sf.Noise(2))
            torch.testing.assert_close(guided(x, t).mean, exact(x, t).mean, atol=1e-9, rtol=0)


@pytest.mark.parametrize("process", [EDM(), LinearBeta()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("floor", [1e-6, 0.5])
def test_row_sums_of_the_dense_covariance(world, matrix, floor, process):
    """D_y = D + C A^T diag(max(A C A^T 1, floor sigma_t^2 / (alpha_t^2 + sigma_t^2)) + sigma^2)^{-1} (y - A D)."""
    t = 0.5
    m, D, A = _measured(world, matrix, 0.3), world.denoiser(process), matrix.A
    x = process.marginal(world.sample(1, sf.Noise(1)), t).sample(sf.Noise(2))
    C = world.covariance(x, t, process)[0]
    r2 = process.sigma(t) ** 2 / (process.alpha(t) ** 2 + process.sigma(t) ** 2)
    sums = (A @ C @ A.T).sum(1).clamp(min=floor * r2)
    mean = D(x, t).mean
    want = mean + ((m.y - mean @ A.T) / (sums + 0.09)) @ A @ C
    torch.testing.assert_close(TMPD(floor=floor).guide(D, m)(x, t).mean, want, atol=1e-10, rtol=0)


def test_negative_row_sums_are_held(world):
    """Opposite signs of two strongly bound coordinates: a row sum below zero must not flip the pull of the data."""
    A = Matrix(torch.diag(torch.tensor([1.0, -3.0, 1.0]).double()))
    process, t = EDM(), 0.6
    x = process.marginal(world.sample(1, sf.Noise(1)), t).sample(sf.Noise(2))
    C = world.covariance(x, t, process)[0]
    assert float((A.A @ C @ A.A.T).sum(1).min()) < 0
    m = _measured(world, A, 0.05)
    assert torch.isfinite(TMPD().guide(world.denoiser(process), m)(x, t).mean).all()
    r2 = process.sigma(t) ** 2 / (1.0 + process.sigma(t) ** 2)
    sums = (A.A @ C @ A.A.T).sum(1).clamp(min=0.01 * r2)
    mean = world.denoiser(process)(x, t).mean
    want = mean + ((m.y - mean @ A.A.T) / (sums + 0.0025)) @ A.A @ C
    torch.testing.assert_close(TMPD().guide(world.denoiser(process), m)(x, t).mean, want, atol=1e-8, rtol=1e-8)


def test_defaults():
    assert TMPD().floor == 0.01 and TMPD().times(EDM()) == grids.log_snr(EDM(), 100)
    with pytest.raises(ValueError, match="floor is a share of a variance, above 0, got -1"):
        TMPD(floor=-1.0)
