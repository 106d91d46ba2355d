import pytest
import torch

import sfumato as sf
from sfumato.operators import Identity, Mask, Matrix
from sfumato.processes import EDM, Anchored, Cosine, LinearBeta, Rectified
from sfumato.solvers import DDRM


def _measured(world, A, n=3, sigma=0.0):
    return sf.Measurement.simulate(A, world.sample(n, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


@pytest.mark.parametrize("process", [LinearBeta(), Rectified(), Cosine()], ids=lambda p: type(p).__name__)
def test_noiseless_measurements_are_met(world, matrix, process):
    m = _measured(world, matrix)
    x = DDRM()(world.denoiser(process), m, sf.Noise(0))
    torch.testing.assert_close(matrix(x), m.y, atol=1e-12, rtol=0)


def test_half_trust_goes_half_way(world, matrix):
    """eta_b = 1/2 in one noiseless step: half of y and half of the denoiser's estimate, along A."""
    m, D = _measured(world, matrix), world.denoiser(LinearBeta())
    x1 = sf.Noise(1).normal(torch.zeros(3, 3).double())
    last = list(DDRM(eta_b=0.5).trajectory(D, m, sf.Noise(0), x1=x1, times=(1.0, 0.0)))[-1].x
    torch.testing.assert_close(matrix(last), 0.5 * (m.y + matrix(D(x1, 1.0).mean)), atol=1e-12, rtol=0)
    moved = last - D(x1, 1.0).mean
    torch.testing.assert_close(moved, matrix.project(moved), atol=1e-12, rtol=0)


def test_half_trust_keeps_the_level(affine_law):
    """Where y is sharper than the level, eta_b < 1 still ends at sigma_s about data that equal y = D."""
    process = LinearBeta()
    tight = sf.GaussianWorld(torch.zeros(1).double(), 1e-12 * torch.eye(1).double())
    m = sf.Measurement(Matrix(torch.eye(1).double()), torch.zeros(1, 1).double(), sigma=0.3)
    for eta_b, share in ((1.0, 1.0), (0.5, 0.25)):
        _, cov = affine_law(DDRM(eta_b=eta_b), tight.denoiser(process), m, (1.0, 0.6))
        expected = process.sigma(0.6) ** 2 - share * (0.3 * process.alpha(0.6)) ** 2
        assert float(cov) == pytest.approx(expected, rel=1e-6)


def test_rotating_the_measurement_changes_nothing(world, matrix, affine_law):
    Q = torch.linalg.qr(sf.Noise(3).normal(torch.zeros(2, 2).double()))[0]
    m = _measured(world, matrix, n=1, sigma=0.1)
    turned = sf.Measurement(Matrix(Q @ matrix.A), m.y @ Q.T, 0.1)
    (mean, cov), (other_mean, other_cov) = (affine_law(DDRM(), world.denoiser(LinearBeta()), n) for n in (m, turned))
    torch.testing.assert_close(mean, other_mean, atol=1e-10, rtol=0)
    torch.testing.assert_close(cov, other_cov, atol=1e-10, rtol=0)


def test_denoising_errs_less_than_the_measurement(world):
    x0 = world.sample(500, sf.Noise(5))
    m = sf.Measurement.simulate(Identity(), x0, sigma=0.3, noise=sf.Noise(6))
    x = DDRM()(world.denoiser(LinearBeta()), m, sf.Noise(0))
    assert float((x - x0).pow(2).mean()) < 0.3**2


def test_start(affine_law, given):
    """alpha y / s with what noise the level leaves, where y is sharper than the level; pure noise elsewhere."""
    process = Rectified()
    A = Matrix(torch.diag(torch.tensor([2.0, 0.01, 0.0])).double())
    m = sf.Measurement(A, torch.tensor([[1.0, 1.0, 0.0]]).double(), sigma=0.2)
    D = sf.GaussianWorld(torch.zeros(3).double(), torch.eye(3).double()).denoiser(process)
    zero, one = (given(v * torch.ones(1, 3).double()) for v in (0.0, 1.0))
    t = 0.8  # alpha 0.2: noise of y 0.02 in the first direction, 4 in the second
    torch.testing.assert_close(DDRM().start(D, m, t, zero), torch.tensor([[0.2 * 0.5, 0.0, 0.0]]).double())
    spread = (DDRM().start(D, m, t, one) - DDRM().start(D, m, t, zero)).abs()
    torch.testing.assert_close(spread, torch.tensor([[(0.64 - 0.0004) ** 0.5, 0.8, 0.8]]).double())
    torch.testing.assert_close(DDRM().start(D, m, 1.0, one).abs(), torch.ones(1, 3).double())


def test_start_on_an_anchor(given):
    process = Anchored(Rectified(), torch.full((1, 1), 3.0).double())
    m = sf.Measurement(Mask(torch.zeros(1)), torch.zeros(1, 1).double(), sigma=0.1)
    D = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double()).denoiser(process)
    assert float(DDRM().start(D, m, 0.5, given(torch.zeros(1, 1).double()))) == pytest.approx(1.5)


def test_an_anchor_is_carried(world, matrix):
    """A shift that every law shares moves nothing at the end: A x = y still, and the mean stays."""
    m = _measured(world, matrix, n=1)
    process = Anchored(LinearBeta(), torch.tensor([[2.0, -1.0, 0.5]]).double())
    D = world.denoiser(process)
    x = DDRM()(D, m.repeat(4000), sf.Noise(0))
    torch.testing.assert_close(matrix(x), m.y.expand(4000, 2), atol=1e-12, rtol=0)
    plain = DDRM()(world.denoiser(LinearBeta()), m.repeat(4000), sf.Noise(0))
    torch.testing.assert_close(x.mean(0), plain.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(x.std(0), plain.std(0), atol=0.02, rtol=0)


def test_an_elementwise_scale_is_refused(world, matrix):
    process = Anchored(LinearBeta(), torch.zeros(1, 3).double(), scale=torch.ones(1, 3).double())
    with pytest.raises(ValueError, match="one noise level"):
        DDRM()(world.denoiser(process), _measured(world, matrix), sf.Noise(0))


def test_times_of_the_paper(ddpm):
    times = DDRM().times(ddpm)
    assert times[:3] == (0.951, 0.901, 0.851) and times[-2:] == (0.001, 0.0) and len(times) == 21
    assert DDRM(steps=4).times(EDM()) == (1.0, 0.75, 0.5, 0.25, 0.0)


@pytest.mark.parametrize("fields", [{"eta": 1.1}, {"eta": -0.1}, {"eta_b": 1.5}, {"eta_b": -1.0}])
def test_shares_are_checked(fields):
    with pytest.raises(ValueError, match=r"DDRM: eta.* is a share, from 0 to 1"):
        DDRM(**fields)


def test_one_network_call_a_step(world, matrix, ddpm):
    D = sf.denoisers.Counted(world.denoiser(ddpm))
    DDRM()(D, _measured(world, matrix), sf.Noise(0))
    assert D.calls == 20


def test_no_noise_is_drawn_that_would_be_multiplied_by_zero(world, matrix, ddpm):
    class Counting(sf.Noise):
        draws = 0

        def normal(self, like):
            self.draws += 1
            return super().normal(like)

    noise = Counting(0)
    DDRM()(world.denoiser(ddpm), _measured(world, matrix), noise)
    assert noise.draws == 1 + 19  # the start, and every step but the last
