import math
from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Identity, LinearFunction, Mask
from sfumato.processes import Cosine, LinearBeta, Rectified
from sfumato.solvers import DDNM, DDRM
from sfumato.solvers.ddnm import gain


def _measured(world, A, n=3, sigma=0.0):
    return sf.Measurement.simulate(A, world.sample(n, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


def _run(solver, D, m, times, seed=0, width=3):
    x1 = sf.Noise(9).normal(torch.zeros(len(m), width).double())
    return list(solver.trajectory(D, m, sf.Noise(seed), x1=x1, times=times))[-1].x


@pytest.mark.parametrize("process", [LinearBeta(), Rectified(), Cosine()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("wrapped", [False, True], ids=["spectral", "linear"])
def test_noiseless_measurements_are_met(world, matrix, process, wrapped):
    A = LinearFunction(lambda x: x @ matrix.A.to(x.dtype).T, (3,)) if wrapped else matrix
    m = _measured(world, A)
    x = DDNM(steps=20)(world.denoiser(process), m, sf.Noise(0))
    torch.testing.assert_close(A(x), m.y, atol=1e-10, rtol=0)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_plus_follows_the_paper_direction_by_direction(world, matrix, sigma):
    """Dense transcription of the paper's lambda_j and noise, from its own start and noise; and so DDRM, eta_b = 1."""
    process, eta = LinearBeta(), 0.85
    m, D, times = _measured(world, matrix, sigma=sigma), world.denoiser(process), grids.uniform(12)
    _, s, Vh = torch.linalg.svd(matrix.A)
    s = torch.cat([s, s.new_zeros(1)])
    y_bar = m.y @ torch.linalg.pinv(matrix.A).T @ Vh.T
    x, noise = sf.Noise(9).normal(torch.zeros(3, 3).double()), sf.Noise(0)
    for t, u in pairwise(times):
        a, b, level = process.alpha(t), process.alpha(u), process.sigma(u)
        clean = D(x, t).mean
        eps, D_bar = (x - a * clean) / process.sigma(t), clean @ Vh.T
        z = noise.normal(x) if level > 0 else torch.zeros_like(x)
        z_bar, eps_bar, new = z @ Vh.T, eps @ Vh.T, torch.zeros_like(x)
        for j in range(3):
            if s[j] == 0:
                new[:, j] = b * D_bar[:, j] + level * (eta * z_bar[:, j] + math.sqrt(1 - eta**2) * eps_bar[:, j])
                continue
            k = sigma / float(s[j])
            trust = 1.0 if level >= b * k else level * math.sqrt(1 - eta**2) / (b * k)
            std = math.sqrt(level**2 - (b * k) ** 2) if level >= b * k else eta * level
            new[:, j] = b * (D_bar[:, j] + trust * (y_bar[:, j] - D_bar[:, j])) + std * z_bar[:, j]
        x = new @ Vh
    torch.testing.assert_close(_run(DDNM(), D, m, times), x, atol=1e-11, rtol=0)
    torch.testing.assert_close(_run(DDRM(), D, m, times), x, atol=1e-11, rtol=0)


def test_plus_starts_from_pure_noise(world, matrix, given):
    D, z = world.denoiser(Rectified()), torch.full((3, 3), 2.0).double()
    torch.testing.assert_close(DDNM().start(D, _measured(world, matrix, sigma=0.1), 0.5, given(z)), 0.5 * z)


def test_range_of_the_plain_form_carries_the_uncorrected_noise(affine_law):
    """On N(0, 1) eps_hat = sigma_t x, so along A: m' = alpha_s y + c sigma_s sigma_t m,
    v' = (c sigma_s sigma_t)^2 v + (eta sigma_s)^2 with c = sqrt(1 - eta^2)."""
    process, times, eta = LinearBeta(), grids.uniform(10), 0.6
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double())
    m = sf.Measurement(Identity(), torch.full((1, 1), 1.5).double(), sigma=0.0)
    mean, var = 0.0, 1.0
    for t, s in pairwise(times[:8]):
        pull = 0.8 * process.sigma(s) * process.sigma(t)
        mean, var = process.alpha(s) * 1.5 + pull * mean, pull**2 * var + (eta * process.sigma(s)) ** 2
    got_mean, got_cov = affine_law(DDNM(eta=eta), world.denoiser(process), m, times, stop=7)
    assert float(got_mean) == pytest.approx(mean, rel=1e-10)
    assert float(got_cov) == pytest.approx(var, rel=1e-10)


@pytest.mark.parametrize("sigma", [0.1, 0.7])
def test_simplified_form_on_the_identity_is_ddrm_without_fresh_noise(world, sigma):
    """With A = I and eta = 0, gain sigma_s / sigma_y and no noise below alpha k: the two rules coincide."""
    D, times = world.denoiser(LinearBeta()), grids.uniform(15)
    whole = LinearFunction(lambda x: 1.0 * x, (3,))
    m = _measured(world, whole, sigma=sigma)
    simple = _run(DDNM(), D, m, times)
    same = _run(DDRM(eta=0.0), D, sf.Measurement(Identity(), m.y, sigma), times)
    torch.testing.assert_close(simple, same, atol=1e-11, rtol=0)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_simplified_form_knows_how_much_noise_the_inverse_magnifies(world, scale):
    """y = c x + n is y / c = x + n / c: the same answer, either side of c = 1; rows have gains of their own."""
    D, times = world.denoiser(LinearBeta()), grids.uniform(15)
    m = _measured(world, LinearFunction(lambda x: scale * x, (3,)), sigma=0.2)
    plain = sf.Measurement(LinearFunction(lambda x: 1.0 * x, (3,)), m.y / scale, 0.2 / scale)
    expected = _run(DDNM(), D, plain, times)
    torch.testing.assert_close(_run(DDNM(), D, m, times), expected, atol=1e-10, rtol=0)
    each = torch.tensor([[scale], [1.0], [0.5]], dtype=torch.float64)
    rows = LinearFunction(lambda x: (each.to(x) if len(x) == 3 else scale) * x, (3,))
    own = _run(DDNM(), D, sf.Measurement(rows, m.y, 0.2), times)
    torch.testing.assert_close(own[0], expected[0], atol=1e-10, rtol=0)
    assert float((own[1:] - _run(DDNM(), D, m, times)[1:]).abs().max()) > 0.01


def test_the_gain_is_the_mean_over_directions():
    """Half of the singular values 1, half 1/2: A^+ has the root mean square gain sqrt((1 + 4) / 2); none: 1."""
    s = torch.where(torch.arange(4000) % 2 == 0, 1.0, 0.5)
    y = torch.zeros(2, 4000)
    found = gain(LinearFunction(lambda x: s * x, (4000,)), y)
    assert found.shape == (2,) and found.tolist() == pytest.approx([math.sqrt(2.5)] * 2, rel=0.04)
    assert gain(Mask(torch.zeros(4000)), y).tolist() == [1.0, 1.0]


def test_simplified_form_gives_the_null_space_the_reduced_noise(affine_law):
    """On N(0, 1) where nothing is seen: v' = (alpha_s alpha_t)^2 v + max(sigma_s^2 - (alpha_s sigma_y)^2, 0)."""
    process, times, sigma = LinearBeta(), grids.uniform(12), 0.5
    world = sf.GaussianWorld(torch.zeros(2).double(), torch.eye(2).double())
    first = LinearFunction(lambda x: x[:, :1], (2,))
    m = sf.Measurement(first, torch.ones(1, 1).double(), sigma=sigma)
    var = 1.0
    for t, s in pairwise(times):
        left = process.sigma(s) ** 2 - (process.alpha(s) * sigma) ** 2
        var = (process.alpha(s) * process.alpha(t)) ** 2 * var + max(left, 0.0)
    _, cov = affine_law(DDNM(), world.denoiser(process), m, times)
    assert float(cov[1, 1]) == pytest.approx(var, rel=1e-8)


def test_travel(world, matrix, ddpm):
    """l = 2, r = 2 on four steps: two down, back up, two down again, and on; each move down is one call."""
    solver = DDNM(steps=4, travel_length=2, travel_repeat=2)
    assert solver.times(ddpm) == (0.751, 0.501, 0.251, 0.751, 0.501, 0.251, 0.001, 0.0)
    D, m = sf.denoisers.Counted(world.denoiser(ddpm)), _measured(world, matrix)
    x = solver(D, m, sf.Noise(0))
    assert D.calls == 6
    torch.testing.assert_close(matrix(x), m.y, atol=1e-10, rtol=0)


def test_times_of_the_paper(ddpm):
    times = DDNM().times(ddpm)
    assert times[:2] == (0.991, 0.981) and times[-2:] == (0.001, 0.0) and len(times) == 101


def test_a_mask_keeps_what_was_seen(world):
    m = _measured(world, Mask(torch.tensor([1.0, 0.0, 1.0])))
    x = DDNM(steps=5)(world.denoiser(Rectified()), m, sf.Noise(0))
    torch.testing.assert_close(x[:, ::2], m.y[:, ::2], atol=1e-12, rtol=0)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_is_a_share(eta):
    with pytest.raises(ValueError, match=f"DDNM: eta is a share, from 0 to 1, got {eta}"):
        DDNM(eta=eta)
