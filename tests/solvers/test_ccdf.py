from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Downsample, Function, Gray, Mask
from sfumato.processes import LinearBeta, Rectified
from sfumato.samplers import DPMpp2M
from sfumato.solvers import CCDF, DPS, ILVR, MMPS, RePaint


def test_from_the_top_it_is_its_solver(world, measured):
    """alpha(1) = 0 on the straight path: nothing of the estimate is left."""
    D = world.denoiser(Rectified())
    for inner in (RePaint.projection(12), RePaint(steps=12, jump=3, repeats=2), MMPS(steps=6, sampler=DPMpp2M())):
        a, b = (solver(D, measured, sf.Noise(4)) for solver in (CCDF(t0=1.0, solver=inner), inner))
        assert torch.equal(a, b)


def test_the_start_and_the_grid(world, matrix, measured, given):
    """x_{t0} = alpha A^+ y + sigma z, or of the estimate given; then the times of the solver below t0."""
    process, z = LinearBeta(), torch.full((3, 3), 0.5).double()
    D, solver = world.denoiser(process), CCDF(t0=0.33, solver=RePaint.projection(10))
    assert solver.times(process) == (0.33, *grids.uniform(10)[7:])
    assert CCDF(t0=0.3, solver=RePaint.projection(10)).times(process)[:2] == (0.3, grids.uniform(10)[8])
    start = solver.start(D, measured, 0.33, given(z))
    expected = process.alpha(0.33) * matrix.pinv(measured.y) + process.sigma(0.33) * 0.5
    torch.testing.assert_close(start, expected, atol=1e-12, rtol=0)
    other = CCDF(t0=0.33, estimate=lambda m: m.y[:, :1] * torch.ones(3, 3).double())
    start = other.start(D, measured, 0.33, given(z))
    torch.testing.assert_close(start, process.alpha(0.33) * measured.y[:, :1] + process.sigma(0.33) * z)
    first = next(solver.trajectory(D, measured, given(z)))
    assert first.time == 0.33 and torch.equal(first.x, solver.start(D, measured, 0.33, given(z)))


def test_a_travelling_grid_keeps_what_lies_below(world):
    inner = RePaint(steps=6, jump=2, repeats=2)
    full = [round(6 * t) for t in inner.times(LinearBeta())]
    assert full == [6, 5, 4, 3, 5, 4, 3, 2, 1, 3, 2, 1, 0]
    got = [round(6 * t, 6) for t in CCDF(t0=0.6, solver=inner).times(LinearBeta())]
    assert got == [3.6, 3, 3.6, 3, 2, 1, 3, 2, 1, 0]


def test_the_data_enter_at_the_new_level(world, matrix, measured, affine_law):
    """Seen part N(alpha_s A^+ y, sigma_s^2) after each step, as of the projection; exact at the end."""
    process, one = LinearBeta(), sf.Measurement(matrix, measured.y[:1], 0.1)
    solver = CCDF(t0=0.4, solver=RePaint.projection(10))
    P, times = matrix.project(torch.eye(3).double()), solver.times(process)
    for stop in (1, 2, 4):
        mean, cov = affine_law(solver, world.denoiser(process), one, stop=stop)
        torch.testing.assert_close(P @ mean, process.alpha(times[stop]) * matrix.pinv(one.y)[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(P @ cov, process.sigma(times[stop]) ** 2 * P, atol=1e-12, rtol=0)


def test_chains_that_share_their_noise_come_together(world, matrix, measured):
    """B = I - A^+ A has norm at most 1: the distance of two starts falls at every step, and more from a larger t0."""
    D, solver, process = world.denoiser(LinearBeta()), RePaint.projection(40), LinearBeta()
    gaps = []
    for t0 in (0.2, 0.6):
        times = CCDF(t0=t0, solver=solver).times(process)
        runs = [
            [s.x for s in CCDF(solver=solver).trajectory(D, measured, sf.Noise(1), x1=x1, times=times)]
            for x1 in (torch.zeros(3, 3).double(), torch.ones(3, 3).double())
        ]
        distance = [float((a - b).norm()) for a, b in zip(*runs, strict=True)]
        assert all(b < a for a, b in pairwise(distance))
        gaps.append(distance[-1])
    assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.parametrize(
    "A, shape",
    [
        (Mask(torch.tensor([1.0, 0.0, 1.0, 0.0])), (1, 4, 4)),
        (Downsample(2), (1, 4, 4)),
        (Downsample.bicubic(2, (8, 8)), (1, 8, 8)),
        (Gray(), (3, 2, 2)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_data_step_is_not_expansive(A, shape):
    """Spectral norms of I - P and P are at most 1 (exactly, an orthogonal projection)."""
    eye = torch.eye(torch.Size(shape).numel()).double().reshape(-1, *shape)
    P = A.project(eye).flatten(1).T
    assert float(torch.linalg.matrix_norm(P, 2)) <= 1 + 1e-9
    assert float(torch.linalg.matrix_norm(torch.eye(len(P)).double() - P, 2)) <= 1 + 1e-9
    torch.testing.assert_close(P @ P, P, atol=1e-9, rtol=0)


def test_error_against_t0_has_the_shape_of_a_u(affine_law):
    """From a decent estimate: the squared error to the exact conditional mean is least at some t0 between the ends.

    Correlated pair, first number seen; the estimate says of the second what is half right.
    """
    world = sf.GaussianWorld(torch.zeros(2).double(), torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double())
    y = torch.tensor([[1.3, 0.0]], dtype=torch.float64)
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0])), y, 0.0)
    exact, errors = float(world.posterior(m).mean[1]), []
    inner = RePaint.projection(50)
    for t0 in (0.02, 0.1, 0.2, 0.35, 0.6, 1.0):
        solver = CCDF(t0=t0, solver=inner, estimate=lambda m: torch.cat([m.y[:, :1], m.y[:, :1] - 0.5 * 1.3 + 0.9], 1))
        mean, _ = affine_law(solver, world.denoiser(LinearBeta()), m)
        errors.append((float(mean[1]) - exact) ** 2)
    least = errors.index(min(errors))
    assert 0 < least < 5
    assert all(b < a for a, b in pairwise(errors[: least + 1]))
    assert all(b > a for a, b in pairwise(errors[least:]))


def test_any_solver_inside(world, measured, alone):
    for inner in (ILVR(steps=10), DPS(steps=10), MMPS(steps=6, sampler=DPMpp2M()), RePaint(steps=9, jump=2, repeats=2)):
        alone(CCDF(t0=0.5, solver=inner), world.denoiser(LinearBeta()), measured)


def test_operators(world):
    bent = Function(lambda x: x.abs(), (3,))
    m, D = sf.Measurement(bent, torch.ones(2, 3).double(), 0.0), world.denoiser(LinearBeta())
    with pytest.raises(TypeError, match="RePaint needs a Linear operator"):
        CCDF()(D, m, sf.Noise(0))
    with pytest.raises(TypeError, match=r"CCDF starts from A\^\+ y, and Function is not linear: give `estimate`"):
        CCDF(solver=DPS(steps=10))(D, m, sf.Noise(0))
    x = CCDF(t0=0.3, solver=DPS(steps=10), estimate=lambda m: m.y)(D, m, sf.Noise(0))
    assert bool(torch.isfinite(x).all())


@pytest.mark.parametrize("t0", [0.0, 1.5])
def test_t0_is_a_time(t0):
    with pytest.raises(ValueError, match="CCDF: 0 < t0 <= 1"):
        CCDF(t0=t0)


def test_without_a_warm_start_a_grid_must_begin_at_noise(world, measured):
    with pytest.raises(ValueError, match="no longer pure noise"):
        next(RePaint().trajectory(world.denoiser(LinearBeta()), measured, sf.Noise(0), times=(0.1, 0.0)))
