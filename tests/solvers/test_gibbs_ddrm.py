"""A circular blur of one tap is a scalar gain: a blind problem whose posterior is known on a grid."""

import math
from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Counted
from sfumato.operators import Blur
from sfumato.processes import LinearBeta, Table
from sfumato.solvers import DDRM, GibbsDDRM

LENGTH, SIGMA = 12, 0.4


def gain(value):
    """y = value x on signals (B, 1, LENGTH)."""
    return Blur(torch.full((1,), value).double(), (LENGTH,))


def signals(spread):
    """Signals of mean 1, independent, of this standard deviation, and one of them seen through a gain of 1.5."""
    mean = torch.ones(1, LENGTH).double()
    world = sf.GaussianWorld(mean, spread**2 * torch.eye(LENGTH).double())
    m = sf.Measurement.simulate(gain(1.5), world.sample(1, sf.Noise(3)), sigma=SIGMA, noise=sf.Noise(4))
    return world, sf.Measurement(gain(0.7), m.y, SIGMA)


def moving(h, **settings):
    """The solver whose step h, at this size and noise, is the given one; a flat prior of phi."""
    rate = h * LENGTH / (3 * 256 * 256) / (64 * 64) * (0.04 / SIGMA) ** 2  # one tap
    return GibbsDDRM(**{"rate": rate, "sparsity": 0.0, "unit": False, **settings})


def posterior_of_gain(m, spread):
    """Mean and standard deviation of phi given y, flat prior, x_0 ~ N(1, spread^2): by quadrature."""
    phi = torch.linspace(0.2, 4.0, 8001).double()[:, None]
    var = (phi * spread) ** 2 + SIGMA**2
    log = -0.5 * ((m.y[0] - phi) ** 2 / var + var.log()).sum(1)
    weight = torch.softmax(log, 0)
    mean = float((weight * phi[:, 0]).sum())
    return mean, math.sqrt(float((weight * (phi[:, 0] - mean) ** 2).sum()))


def test_without_rounds_it_is_ddrm():
    world, m = signals(0.5)
    D, m = world.denoiser(LinearBeta()), m.repeat(3)
    for eta in (0.85, 0.4):
        ours = GibbsDDRM(steps=9, eta_b=0.8, eta_c=math.sqrt(1 - eta**2), eta_d=eta, rounds=0)
        want = DDRM(steps=9, eta_b=0.8, eta=eta)(D, m, sf.Noise(1))
        torch.testing.assert_close(ours(D, m, sf.Noise(1)), want, atol=1e-12, rtol=0)


def test_three_kinds_of_directions_have_their_own_weights(given):
    """A kernel of taps 1, -1 (hidden mean) on two numbers: frequency 0 is hidden, frequency 1 is seen with gain 2."""
    process = LinearBeta()
    world = sf.GaussianWorld(torch.tensor([[0.4, -0.2]]).double(), 0.3 * torch.eye(2).double())
    A = Blur(torch.tensor([1.0, -1.0]).double(), (2,))
    D, x = world.denoiser(process), torch.tensor([[[0.3, 0.9]]]).double()
    turn = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double() / math.sqrt(2)
    t, s = 0.5, 0.3
    alpha, sigma = process.alpha(s), process.sigma(s)
    d = turn @ D(x, t).mean[0, 0]
    eps = turn @ process.eps(x, D(x, t).mean, t)[0, 0]
    y = torch.tensor([[[0.5, -0.5]]]).double()
    seen = (turn @ A.pinv(y)[0, 0])[1]
    z = torch.tensor([[[1.0, 0.2]]]).double()
    w = turn @ z[0, 0]
    solver = GibbsDDRM(eta_b=0.9, eta_c=0.7, eta_d=0.6, rounds=0)
    for noise in (0.05, 5.0):  # y sharper than the level, and not
        m = sf.Measurement(A, y, noise)
        got = turn @ solver.step(D, m, x, t, s, solver.init(D, m, x), given(z))[0][0, 0]
        hidden = alpha * d[0] + sigma * (math.sqrt(1 - 0.36) * eps[0] + 0.6 * w[0])
        k = noise / 2
        if noise < 1:
            there = alpha * (0.1 * d[1] + 0.9 * seen) + math.sqrt(sigma**2 - (0.9 * alpha * k) ** 2) * w[1]
        else:
            there = alpha * d[1] + sigma * (0.7 * (seen - d[1]) / k + math.sqrt(1 - 0.49) * w[1])
        torch.testing.assert_close(got, torch.stack([hidden, there]), atol=1e-12, rtol=0)


def test_the_moves_of_a_gain_are_a_known_recursion():
    """phi' - phi* = (1 - h |x|^2 / (2 sigma^2)) (phi - phi*) + sqrt(h) z, phi* = <x, y> / |x|^2: exactly."""
    _, m = signals(0.5)
    x, h, n = sf.Noise(1).normal(m.y), 0.004, 30
    power, best = float(x.square().sum()), float((x * m.y).sum() / x.square().sum())
    keep = 1 - 0.5 * h * power / SIGMA**2
    many = m.repeat(20000)
    phi = moving(h, moves=n)._moved(
        many, x.expand_as(many.y), None, torch.full((20000, 1, 1), 0.7).double(), sf.Noise(2)
    )
    std = math.sqrt(h * (1 - keep ** (2 * n)) / (1 - keep**2))
    assert float(phi.mean()) == pytest.approx(best + keep**n * (0.7 - best), abs=4 * std / math.sqrt(20000))
    assert float(phi.std()) == pytest.approx(std, rel=4 / math.sqrt(40000))


def test_the_laplace_prior_and_the_unit_sum(given):
    """One move without data (x = 0): phi - h/2 lambda sign(phi); then the taps over their sum."""
    m = sf.Measurement(Blur(torch.tensor([0.9, -0.3, 0.4]).double(), (4,)), torch.zeros(1, 1, 4).double(), 0.04)
    phi, still = m.operator.parameters.reshape(1, 1, 3), given(torch.zeros(1, 1, 3).double())
    h = 1e-11 * 3 * 256 * 256 / 4 * 64 * 64 / 3
    solver = GibbsDDRM(moves=1, sparsity=1000.0, unit=False)
    moved = solver._moved(m, torch.zeros(1, 1, 4).double(), None, phi, still)
    torch.testing.assert_close(moved, phi - 0.5 * h * 1000.0 * phi.sign(), atol=1e-15, rtol=0)
    unit = GibbsDDRM(moves=1)._moved(m, torch.zeros(1, 1, 4).double(), None, phi, still)
    torch.testing.assert_close(unit, moved / moved.sum(), atol=1e-15, rtol=0)


@pytest.mark.parametrize("spread, mean_gap, ratio", [(1e-3, 0.05, 0.12), (0.2, 0.35, 0.15)])
def test_the_law_of_an_unknown_gain(spread, mean_gap, ratio):
    """Mean and spread of phi against quadrature: exact where x_0 is all but known, near where DDRM's bias is small."""
    world, m = signals(spread)
    mean, std = posterior_of_gain(m, spread)
    solver = moving(0.3 * SIGMA**2 / LENGTH, steps=20, rounds=2, moves=30, eta_b=1.0, eta_c=1.0, eta_d=0.85)
    last = list(solver.trajectory(world.denoiser(LinearBeta()), m.repeat(400), sf.Noise(5)))[-1]
    assert last.memory.shape == (400, 1, 1)
    assert abs(float(last.memory.mean()) - mean) < mean_gap * std + 4 * std / 20
    assert float(last.memory.std()) == pytest.approx(std, rel=ratio)


def test_calls_and_when_phi_moves():
    """One call for each step, one more for each round, in steps from `begin` down, not in the last."""
    world, m = signals(0.5)
    D = Counted(world.denoiser(Table.linear()))
    solver = moving(1e-4, steps=10, rounds=3, moves=2, begin=0.5)
    steps = list(solver.trajectory(D, m, sf.Noise(0)))
    still = [float(step.memory) for step in steps if step.time > 0.4]
    assert still == [pytest.approx(0.7)] * len(still)
    moved = [step.time for a, step in pairwise(steps) if float(a.memory) != float(step.memory)]
    began = [t for t, s in pairwise(solver.times(D.process)) if t <= 0.5 and s > 0]
    assert len(moved) == len(began) and D.calls == 10 + 3 * len(began)
    assert float(m.operator.parameters) == pytest.approx(0.7)


@pytest.fixture(scope="module")
def blurred():
    """A rough periodic signal with power at every frequency, its blur by three unequal taps, and a wrong start."""
    size = 64
    world = sf.GaussianWorld(torch.zeros(1, size).double(), torch.eye(size).double())
    taps = torch.tensor([0.15, 0.6, 0.25]).double()
    m = sf.Measurement.simulate(Blur(taps, (size,)), world.sample(1, sf.Noise(1)), sigma=0.05, noise=sf.Noise(2))
    return world, taps, sf.Measurement(Blur(torch.full((3,), 1 / 3).double(), (size,)), m.y, 0.05)


def test_sums_and_batches(blurred, alone):
    world, _, m = blurred
    solver = GibbsDDRM(steps=6, rounds=1, moves=5, rate=7e-13)
    D = world.denoiser(LinearBeta())
    last = list(solver.trajectory(D, m.repeat(2), sf.Seeds([3, 4])))[-1]
    torch.testing.assert_close(last.memory.sum((1, 2)), torch.ones(2).double())
    for i in (0, 1):
        one = list(solver.trajectory(D, m, sf.Seeds([3 + i])))[-1]
        torch.testing.assert_close(last.x[i : i + 1], one.x, atol=1e-10, rtol=0)
        torch.testing.assert_close(last.memory[i : i + 1], one.memory, atol=1e-10, rtol=0)


def test_taps_are_found_where_the_picture_is_nearly_known():
    """Three unequal taps from three equal ones: to their posterior spread about the least-squares taps of the mean."""
    size = 64
    mean = sf.Noise(7).normal(torch.zeros(1, size).double())
    world = sf.GaussianWorld(mean, 1e-4 * torch.eye(size).double())
    taps = torch.tensor([0.15, 0.6, 0.25]).double()
    m = sf.Measurement.simulate(Blur(taps, (size,)), mean[None], sigma=0.05, noise=sf.Noise(2))
    m = sf.Measurement(Blur(torch.full((3,), 1 / 3).double(), (size,)), m.y, 0.05)
    solver = GibbsDDRM(steps=20, rounds=1, moves=50, rate=7e-13, sparsity=0.0)
    last = list(solver.trajectory(world.denoiser(LinearBeta()), m.repeat(8), sf.Noise(0)))[-1]
    found, spread = last.memory.reshape(8, 3), 0.05 / float(mean.norm())
    torch.testing.assert_close(found, taps.expand(8, 3), atol=5 * spread, rtol=0)


def test_settings():
    with pytest.raises(ValueError, match="eta_c is a share"):
        GibbsDDRM(eta_c=1.2)
    with pytest.raises(TypeError, match="needs a Spectral operator, or a Convolution with valid borders, got Convol"):
        GibbsDDRM().check(sf.operators.Convolution(torch.ones(3)))
    GibbsDDRM(spread=True).check(sf.operators.Convolution(torch.ones(3), "valid"))
    GibbsDDRM(spread=True).check(gain(1.0))
    GibbsDDRM().check(sf.operators.Identity())
    with pytest.raises(TypeError, match="looks for a kernel, Identity has none"):
        GibbsDDRM(spread=True).check(sf.operators.Identity())
    _, m = signals(0.5)
    quiet = sf.Measurement(m.operator, m.y, 0.0)
    with pytest.raises(ValueError, match="state sigma"):
        GibbsDDRM().init(None, quiet, m.y)
    assert GibbsDDRM(rounds=0).init(None, quiet, m.y).shape == (1, 1, 1)
    s = GibbsDDRM()
    assert (s.steps, s.eta_b, s.eta_c, s.eta_d, s.begin, s.rounds, s.moves) == (100, 0.9, 0.8, 0.8, 0.7, 3, 500)
    assert (s.least, s.spread, s.rate, s.sparsity, s.unit) == (0.05, False, 1e-11, 1000.0, True)
    s = GibbsDDRM.photographs()
    assert (s.steps, s.rounds, s.rate, s.spread, s.moves) == (60, 2, 8e-12, True, 500)


def test_the_first_kernel():
    """exp(-r / 10) about the middle of an odd and an even width."""
    for width in (5, 6):
        k = GibbsDDRM.kernel(width)
        middle = k[width // 2, width // 2]
        assert k.shape == (width, width) and float(k.sum()) == pytest.approx(1.0) and bool((k <= middle).all())
        assert float(k[0, 1] / middle) == pytest.approx(math.exp(-math.hypot(width // 2, width // 2 - 1) / 10))


@pytest.mark.parametrize("gain_seen, seen", [(0.04, False), (0.06, True)])
def test_faint_directions_are_unseen(given, gain_seen, seen):
    """A gain up to `least` leaves start and step to the prior; a larger one does not."""
    world = sf.GaussianWorld(torch.zeros(1, 3).double(), torch.eye(3).double())
    D, z = world.denoiser(LinearBeta()), torch.tensor([[[0.3, -1.0, 0.5]]]).double()
    A = Blur(torch.tensor([gain_seen]).double(), (3,))
    near, far = (sf.Measurement(A, torch.full((1, 1, 3), v).double(), 0.02) for v in (0.1, -0.4))
    solver, x = GibbsDDRM(rounds=0), torch.tensor([[[0.2, 0.1, -0.7]]]).double()
    starts = [solver.start(D, m, 1.0, given(z)) for m in (near, far)]
    steps = [solver.step(D, m, x, 0.5, 0.4, solver.init(D, m, x), given(z))[0] for m in (near, far)]
    for a, b in (starts, steps):
        assert torch.equal(a, b) != seen
    if not seen:
        torch.testing.assert_close(starts[0], LinearBeta().sigma(1.0) * z, atol=1e-12, rtol=0)
        want = GibbsDDRM(rounds=0).step(
            D, sf.Measurement(Blur(torch.zeros(1).double(), (3,)), near.y, 0.02), x, 0.5, 0.4,
            torch.zeros(1, 1, 1).double(), given(z),
        )[0]  # fmt: skip
        torch.testing.assert_close(steps[0], want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("taps", [(3, 4), (2, 5)])
def test_beyond_the_borders_y_is_drawn(given, taps):
    """A valid convolution is a circular one of a larger picture, whose outer y is A D + sigma z."""
    k = sf.Noise(0).normal(torch.zeros(taps).double())
    A = sf.operators.Convolution(k, "valid")
    x = sf.Noise(1).normal(torch.zeros(2, 1, 8, 9).double())
    m = sf.Measurement(A, torch.full_like(A(x), 7.0), 0.1)
    z = sf.Noise(2).normal(x)
    now = GibbsDDRM._now(m, k.expand(2, 1, *taps), x, given(z))
    outer = now.y != 7.0
    assert int((~outer).sum()) == m.y.numel() and now.sigma == 0.1
    circle = Blur(k, (8, 9))(x)
    torch.testing.assert_close(now.y[outer], (circle + 0.1 * z)[outer], atol=1e-12, rtol=0)
    torch.testing.assert_close(circle[~outer], A(x).flatten(), atol=1e-12, rtol=0)
    torch.testing.assert_close(now.operator(x), circle, atol=1e-12, rtol=0)


def test_a_valid_convolution_starts_from_y_carried_outwards(given):
    """With a point for a kernel the start is y itself, its border repeated, and the last noise of the level."""
    world = sf.GaussianWorld(torch.zeros(1, 6, 6).double(), torch.eye(36).double())
    point = torch.zeros(3, 3).double()
    point[1, 1] = 1.0
    y = torch.arange(16.0).double().reshape(1, 1, 4, 4)
    m = sf.Measurement(sf.operators.Convolution(point, "valid"), y, 1e-6)
    zero = torch.zeros(1, 1, 6, 6).double()
    got = GibbsDDRM().start(world.denoiser(LinearBeta()), m, 0.5, given(zero))
    want = torch.nn.functional.pad(y, [1, 1, 1, 1], mode="replicate")
    torch.testing.assert_close(got, LinearBeta().alpha(0.5) * want, atol=1e-9, rtol=0)
    x = GibbsDDRM(steps=5, rounds=1, moves=3)(world.denoiser(LinearBeta()), m.repeat(2), sf.Noise(0))
    assert x.shape == (2, 1, 6, 6)


def test_the_spread_is_that_of_x0(given):
    """On a normal the second of the pair is Cov[x_0 | x_s] times the first, exactly: D is linear."""
    root = sf.Noise(0).normal(torch.zeros(4, 4).double())
    world = sf.GaussianWorld(torch.zeros(1, 4).double(), root @ root.T)
    for process in (LinearBeta(), sf.processes.EDM()):
        x, v = (sf.Noise(i).normal(torch.zeros(1, 1, 4).double()) for i in (1, 2))
        _, pair = GibbsDDRM(spread=True)._moments(world.denoiser(process), x, 0.4, given(v))
        cov = world.covariance(x, 0.4, process)[0]
        torch.testing.assert_close(pair[0], v, atol=0, rtol=0)
        torch.testing.assert_close(pair[1][0, 0], cov @ v[0, 0], atol=1e-8, rtol=1e-6)
        assert GibbsDDRM()._moments(world.denoiser(process), x, 0.4, given(v))[1] is None


def test_the_spread_widens_what_a_smooth_estimate_sharpens():
    """Signals of variance 1 seen through a gain of 1: D halves them, so the kernel that fits D is 2; with the spread it
    is that of the least expected square, E[x y] / E[x^2] = 1 / 2 where x is not told y, and far from 2."""
    y = sf.Noise(0).normal(torch.zeros(1, 1, 4000).double())
    m = sf.Measurement(Blur(torch.ones(1).double(), (4000,)), y, 0.04)
    D, v = 0.5 * y, sf.Noise(1).normal(y)
    settings = {"unit": False, "sparsity": 0.0, "moves": 400, "rate": 2e-12}
    phi = torch.ones(1, 1, 1).double()
    smooth = GibbsDDRM(**settings)._moved(m, D, None, phi, sf.Noise(2))
    told = GibbsDDRM(**settings)._moved(m, D, (v, 0.75 * v), phi, sf.Noise(2))
    assert float(smooth) == pytest.approx(2.0, abs=0.05) and float(told) == pytest.approx(0.5, abs=0.05)
