import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Counted
from sfumato.operators import Clip, Downsample, Identity
from sfumato.processes import LinearBeta, Rectified, Table
from sfumato.solvers import DR2, ILVR
from sfumato.solvers.ilvr import Bicubic

SIZE = 8


@pytest.fixture(scope="module")
def smooth():
    """A Gaussian of smooth pictures with a mean, correlated over two pixels, and two references."""
    at = torch.cartesian_prod(torch.arange(SIZE), torch.arange(SIZE)).double()
    cov = torch.exp(-(torch.cdist(at, at) ** 2) / 8) + 1e-3 * torch.eye(SIZE**2).double()
    world = sf.GaussianWorld(0.2 * torch.ones(1, SIZE, SIZE).double(), cov)
    return world, sf.Measurement(Identity(), world.sample(2, sf.Noise(1)), 0.0)


def test_left_at_the_end_it_is_ilvr_with_a_late_start(smooth):
    """tau = 0: the last state is free, as with `until` above 0."""
    world, m = smooth
    D, solver = world.denoiser(LinearBeta()), DR2(steps=20, factor=2, omega=9, tau=0)
    assert solver.times(LinearBeta()) == pytest.approx((*((i + 1) / 20 for i in range(9, -1, -1)), 0.0), abs=1e-12)
    x1 = sf.Noise(3).normal(m.y)
    got = list(solver.trajectory(D, m, sf.Noise(4), x1=x1))[-1].x
    down = Downsample.bicubic(2, (SIZE, SIZE))
    ilvr = ILVR(until=1e-3, up=Bicubic(2))
    low = sf.Measurement(down, down(m.y), 0.0)
    want = list(ilvr.trajectory(D, low, sf.Noise(4), x1=x1, times=solver.times(LinearBeta())))[-1].x
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("process", [LinearBeta(), Rectified()], ids=lambda p: type(p).__name__)
def test_a_factor_of_one_forgets_the_way(smooth, process):
    """Each state is q(x_i | y): the result is D of y noised to tau, in closed form; the start is noised to omega."""
    world, m = smooth
    solver = DR2(steps=50, factor=1, omega=30, tau=12)
    x = solver(world.denoiser(process), m.repeat(500), sf.Noise(2)).unflatten(0, (500, 2))
    t = 13 / 50
    a, s = process.alpha(t), process.sigma(t)
    gain = a * world.covs[0] @ torch.linalg.inv(a**2 * world.covs[0] + s**2 * torch.eye(SIZE**2).double())
    mean = world.mean.flatten() + (a * (m.y - world.mean)).flatten(1) @ gain.T
    spread = s**2 * (gain @ gain.T)
    error = (x.mean(0).flatten(1) - mean).abs() / (spread.diag() / 500).sqrt()
    assert float(error.max()) < 4.5
    torch.testing.assert_close(x.flatten(2).var(0).mean(0).sum(), spread.diag().sum(), rtol=0.1, atol=0)


def test_the_start(smooth, given):
    world, m = smooth
    z, process = torch.full_like(m.y, 0.5), LinearBeta()
    start = DR2().start(world.denoiser(process), m, 0.43, given(z))
    torch.testing.assert_close(start, process.alpha(0.43) * m.y + process.sigma(0.43) * z, atol=1e-12, rtol=0)


def left(world, y, artefact, solver):
    """What is left of an addition to y in the result, as a share of its size: the noise is the same."""
    D = world.denoiser(LinearBeta())
    a, b = (solver(D, sf.Measurement(Identity(), v, 0.0), sf.Noise(5)) for v in (y, y + artefact))
    return float((b - a).norm() / artefact.norm())


def test_larger_factors_and_later_exits_remove_more(smooth):
    """Of a chequerboard, which the prior does not have, and of a picture's own detail."""
    world, m = smooth
    grid = torch.arange(SIZE)
    board = (((grid[:, None] + grid) % 2).double() * 2 - 1).expand(2, 1, SIZE, SIZE)
    for artefact in (board, m.y - world.mean):
        of_factor = [left(world, m.y, artefact, DR2(steps=50, factor=n, omega=25, tau=10)) for n in (1, 4, 8)]
        of_tau = [left(world, m.y, artefact, DR2(steps=50, factor=1, omega=tau + 5, tau=tau)) for tau in (5, 15, 30)]
        assert of_factor[0] > 1.1 * of_factor[1] and of_factor[1] > 1.1 * of_factor[2]
        assert of_tau[0] > 1.1 * of_tau[1] and of_tau[1] > 1.1 * of_tau[2]


def test_calls_second_stage_and_batches(smooth, alone):
    world, m = smooth
    D = Counted(world.denoiser(LinearBeta()))
    solver = DR2(steps=50, factor=2, omega=20, tau=12)
    x = solver(D, m, sf.Noise(0))
    assert D.calls == 20 - 12 + 1
    enhanced = DR2(steps=50, factor=2, omega=20, tau=12, enhance=lambda v: 2 * v)
    torch.testing.assert_close(enhanced(D, m, sf.Noise(0)), 2 * x)
    alone(solver, world.denoiser(LinearBeta()), m)


def test_settings():
    found = [(v.factor, v.omega, v.tau, v.steps) for v in (DR2(), DR2.medium(), DR2.strong())]
    assert found == [(4, 42, 22, 100), (8, 60, 35, 100), (16, 65, 35, 100)]
    for wrong in ({"tau": -1}, {"tau": 43}, {"omega": 100}, {"factor": 0}):
        with pytest.raises(ValueError, match="DR2: 0 <= tau <= omega < steps"):
            DR2(**wrong)
    assert DR2(tau=42, omega=42).times(LinearBeta()) == pytest.approx((0.43, 0.0), abs=1e-12)
    # on a table of 1000 a hundred indices from the first level to the last, 999 / 99 apart
    assert DR2(tau=42, omega=43).times(Table.linear()) == (0.435, 0.425, 0.0)
    with pytest.raises(TypeError, match="DR2 needs a Linear"):
        DR2().check(Clip())
