import math
from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import Counted, Denoiser
from sfumato.operators import Function, Mask
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.samplers import DDIM
from sfumato.solvers import CoPaint


@pytest.fixture
def states():
    return sf.Noise(9).normal(torch.zeros(3, 3).double())


def _loss(solver, D, m, x, start, t, k=0):
    gap = m.residual(D(x, t).mean)
    return (gap**2).sum(1) + solver.c * solver.c_decay**k * ((x - start) ** 2).sum(1)


def _moved(solver, D, m, x, t, memory=None):
    """The state after the optimisation alone: a step from t to t."""
    return solver.step(D, m, x, t, t, memory or {}, sf.Noise(0))[0]


@pytest.mark.parametrize("process", [LinearBeta(), Rectified(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("solver", [CoPaint(c=1e12), CoPaint(moves=0), CoPaint(lr=1e-30)], ids=["c", "moves", "lr"])
def test_without_optimisation_it_is_ddim(world, measured, states, process, solver):
    D, times = world.denoiser(process), grids.uniform(3)
    got = list(solver.trajectory(D, measured, sf.Noise(1), x1=states, times=times))[-1].x
    want = sf.sample(D, DDIM(), x1=states, times=times, noise=sf.Noise(1))
    torch.testing.assert_close(got, want, atol=1e-8, rtol=0)


@pytest.mark.parametrize("t", [0.8, 0.4, 0.05])
@pytest.mark.parametrize("c", [0.0, 0.3])
def test_one_move_is_gradient_descent_on_the_loss(world, matrix, measured, states, t, c):
    """x - lr alpha_t grad, grad = -2 alpha / sigma^2 C A^T (y - A D) (dD/dx = alpha / sigma^2 C on Gaussian data); then
    the gradient of the second move holds the pull 2 c (x - x~) as well."""
    process = LinearBeta()
    D, lr = world.denoiser(process), 1e-3
    solver = CoPaint(lr=lr, moves=1, c=c)
    C, scale = world.covariance(states, t, process), process.alpha(t) / process.sigma(t) ** 2

    def slope(x):
        return -2 * scale * torch.einsum("bij,bj->bi", C, matrix.adjoint(measured.residual(D(x, t).mean)))

    once = states - lr * process.alpha(t) * slope(states)
    twice = once - lr * process.alpha(t) * (slope(once) + 2 * c * (once - states))
    torch.testing.assert_close(_moved(solver, D, measured, states, t), once, atol=1e-12, rtol=0)
    two = CoPaint(lr=lr, moves=2, c=c)
    torch.testing.assert_close(_moved(two, D, measured, states, t), twice, atol=1e-12, rtol=0)


@pytest.mark.parametrize("lr", [0.02, 1.0, 1e3])
@pytest.mark.parametrize("t", [0.9, 0.3, 0.02])
def test_the_loss_never_rises(world, measured, states, lr, t):
    D = world.denoiser(LinearBeta())
    last = _loss(CoPaint(), D, measured, states, states, t)
    for moves in (1, 2, 5):
        solver = CoPaint(lr=lr, moves=moves)
        now = _loss(solver, D, measured, _moved(solver, D, measured, states, t), states, t)
        assert bool((now < last).all())
        last = now


def test_line_search_by_hand():
    """D = x on one number, y = 0: loss x^2. From 1, lr 5: x - 5 0.8^k 2x first has a loss of at most 1 at k = 8."""

    class Same(Denoiser):
        process = EDM()

        def forward(self, xt, t, cond=None):
            return sf.Estimate(xt)

    m = sf.Measurement(Function(lambda x: x, (1,)), torch.zeros(2, 1).double(), 0.0)
    x = torch.tensor([[1.0], [0.0]]).double()
    D = Counted(Same())
    got = _moved(CoPaint(lr=5.0, c=0.0, moves=1), D, m, x, 0.5)
    torch.testing.assert_close(got, torch.tensor([[1 - 10 * 0.8**8], [0.0]], dtype=torch.float64), atol=1e-12, rtol=0)
    assert 10 * 0.8**7 > 2 >= 10 * 0.8**8 and D.calls == 1 + 9
    # the lowered rate is that of the second move too
    got = _moved(CoPaint(lr=5.0, c=0.0, moves=2), Same(), m, x, 0.5)
    assert float(got[0, 0]) == pytest.approx((1 - 10 * 0.8**8) ** 2, abs=1e-12)


def test_a_loss_that_cannot_fall_keeps_the_state():
    """Where every try is NaN the state stays."""

    class Walls(Denoiser):
        process = EDM()

        def forward(self, xt, t, cond=None):
            return sf.Estimate(torch.where(xt == 1.0, xt, xt * math.nan))

    m = sf.Measurement(Function(lambda x: x, (1,)), torch.zeros(1, 1).double(), 0.0)
    assert float(_moved(CoPaint(), Walls(), m, torch.ones(1, 1).double(), 0.5)) == 1.0


def test_rates_and_weights_are_functions_of_the_level(world, measured, states):
    """The k-th level below the top: lr decay^k alpha_t, c decay^k, also when a move up comes back to it."""
    process = LinearBeta()
    D, solver = world.denoiser(process), CoPaint(lr=1e-3, lr_decay=1.5, c=0.2, c_decay=2.0, moves=2)
    times = (1.0, 0.6, 0.3, 0.3, 0.6, 0.3, 0.1)
    steps = list(solver.trajectory(D, measured, sf.Noise(0), x1=states, times=times))
    levels = {1.0: 0, 0.6: 1, 0.3: 2, 0.1: 3}
    assert steps[-1].memory == levels
    for before, after in pairwise(steps):
        if after.time > before.time:
            continue
        t, k = before.time, levels[before.time]
        alone = CoPaint(lr=1e-3 * 1.5**k, lr_decay=1.0, c=0.2 * 2.0**k, c_decay=1.0, moves=2)
        x, _ = alone.step(D, measured, before.x, t, after.time, {}, sf.Noise(0))
        torch.testing.assert_close(after.x, x, atol=1e-12, rtol=0)


def test_optimised_once_more_before_a_move_up(ddpm):
    """CoPaint-TT: the level below is visited twice, then ten steps up; counted from the last level."""
    solver = CoPaint.tt()
    times = solver.times(ddpm)
    ups = [i for i in range(1, len(times)) if times[i] > times[i - 1]]
    assert len(ups) == 24
    assert all(times[i - 1] == times[i - 2] for i in ups)
    same = [i for i in range(1, len(times)) if times[i] == times[i - 1]]
    assert len(same) == 24
    plain = CoPaint().times(ddpm)
    assert len(plain) == 251 and plain[0] == 1.0 and plain[-2:] == (0.001, 0.0)
    assert (times[ups[-1]], times[ups[-1] - 1]) == (plain[239], plain[249])


def test_what_was_seen_is_nearly_met(world):
    """The residual falls far below that of DDIM, and is not 0."""
    A = Mask(torch.tensor([1.0, 0.0, 1.0]))
    m = sf.Measurement.simulate(A, world.sample(4, sf.Noise(5)), sigma=0.0, noise=sf.Noise(6))
    D = world.denoiser(LinearBeta())
    gaps = [
        float(m.residual(v(D, m, sf.Noise(0))).norm()) for v in (CoPaint(steps=60, lr=0.1), CoPaint(steps=60, moves=0))
    ]
    assert 1e-6 < gaps[0] < 0.1 * gaps[1]


def test_a_proposal_of_more_weight_is_left_less(world, measured, states):
    D = world.denoiser(LinearBeta())
    gaps = [
        float((_moved(CoPaint(c=c, lr=0.05, moves=40), D, measured, states, 0.4) - states).norm())
        for c in (0.0, 0.5, 5.0)
    ]
    assert gaps[0] > 1.3 * gaps[1] > 1.3 * 1.3 * gaps[2] > 0


def test_a_nonlinear_operator(world, states):
    A = Function(lambda x: x.abs(), (3,))
    m = sf.Measurement.simulate(A, world.sample(3, sf.Noise(5)), sigma=0.0, noise=sf.Noise(6))
    D = world.denoiser(LinearBeta())
    solver = CoPaint(lr=2.0, moves=10)
    before, after = (_loss(solver, D, m, x, states, 0.5) for x in (states, _moved(solver, D, m, states, 0.5)))
    assert bool((after < 0.9 * before).all())


def test_batches(world, measured, alone):
    """One rate for each sample: with the shared one of the public code a batch would couple its rows."""
    D = world.denoiser(LinearBeta())
    for solver in (CoPaint(steps=6, lr=5.0), CoPaint(steps=9, lr=0.5, jump=2, repeats=2)):
        alone(solver, D, measured)


def test_named_settings():
    base, fast, tt, imagenet = CoPaint(), CoPaint.fast(), CoPaint.tt(), CoPaint.imagenet()
    assert (base.steps, base.moves, base.lr, base.lr_decay, base.c, base.c_decay) == (250, 2, 0.02, 1.012, 1e-4, 1.01)
    assert (fast.steps, fast.moves, fast.lr, fast.lr_decay) == (100, 1, 0.02, 1.03)
    assert (tt.jump, tt.repeats, tt.moves) == (10, 2, 2)
    assert (imagenet.c, imagenet.c_decay) == (0.01, 1.0)


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"lr_decay": 0.0}, {"c_decay": -1.0}, {"c": -1.0}, {"moves": -1}])
def test_settings(settings):
    with pytest.raises(ValueError, match="CoPaint: lr, lr_decay and c_decay are positive"):
        CoPaint(**settings)


def test_no_graph_is_kept(world, measured, states):
    x, _ = CoPaint().step(world.denoiser(LinearBeta()), measured, states, 0.5, 0.4, {}, sf.Noise(2))
    assert not x.requires_grad and not states.requires_grad
