"""The warm start: the law of its first state in closed form, its grid, and that its steps are the inner solver's."""

import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Function, Mask
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.solvers import DDNM, DDRM, MMPS, PiGDM, Warm


@pytest.mark.parametrize("process", [EDM(), LinearBeta(), Rectified()], ids=lambda p: type(p).__name__)
def test_the_first_state_is_the_ridge_estimate_at_the_level(measured, matrix, world, process):
    solver = Warm(DDRM(), level=0.7, steps=4, spread=0.5)
    grid = solver.times(process)
    assert len(grid) == 5 and grid[-1] == 0.0
    assert process.sigma(grid[0]) / process.alpha(grid[0]) == pytest.approx(0.7)
    assert grid == grids.log_snr(process, 4, start=grid[0])
    n = 4000
    m = sf.Measurement(matrix, measured.y[:1], measured.sigma).repeat(n)
    x = solver.start(world.denoiser(process), m, grid[0], sf.Noise(0)) / process.alpha(grid[0])
    # The posterior mean of N(0, spread^2 I) given y.
    A = matrix.A
    truth = A.T @ torch.linalg.inv(A @ A.T + (0.1 / 0.5) ** 2 * torch.eye(2).double()) @ measured.y[0]
    torch.testing.assert_close(x.mean(0), truth, atol=4 * 0.7 / math.sqrt(n), rtol=0)
    torch.testing.assert_close(torch.cov(x.T), 0.49 * torch.eye(3).double(), atol=4 * 0.49 * math.sqrt(2 / n), rtol=0)


def test_noiseless_it_starts_from_the_pseudo_inverse(pair):
    world, m = pair
    denoiser = world.denoiser(EDM())
    silent = sf.Noise(0)
    silent.normal = torch.zeros_like
    x = Warm().start(denoiser, m, 0.5, silent)
    assert torch.equal(x, m.y)


def test_the_steps_are_those_of_the_solver(world, measured):
    """From the same start on the same grid, a guided solver with memory too."""
    process = LinearBeta()
    for inner in (DDRM(), MMPS(), PiGDM()):
        solver = Warm(inner, level=1.5, steps=6)
        got = solver(world.denoiser(process), measured, sf.Noise(3))
        noise, times = sf.Noise(3), solver.times(process)
        x1 = solver.start(world.denoiser(process), measured, times[0], noise)
        *_, last = inner.trajectory(world.denoiser(process), measured, noise, x1=x1, times=times)
        assert torch.equal(got, last.x)


def test_a_row_does_not_know_its_batch(alone, world, measured):
    alone(Warm(DDRM(), steps=5), world.denoiser(EDM()), sf.Measurement(measured.operator, measured.y[:2], 0.1))


def test_upward_moves_restart_the_inner_solver(world, measured):
    class Heard(DDNM):
        def restart(self, denoiser, m, xt, memory):
            heard.append(memory)
            return super().restart(denoiser, m, xt, memory)

    heard = []
    solver, process = Warm(Heard(), steps=3), EDM()
    list(solver.trajectory(world.denoiser(process), measured, sf.Noise(0), times=(0.5, 0.3, 0.5, 0.0)))
    assert len(heard) == 1


def test_what_it_needs(world):
    assert Warm(MMPS()).differentiates and not Warm(DDRM()).differentiates
    with pytest.raises(TypeError, match="Function is not linear: use DPS itself"):
        Warm(sf.solvers.DPS()).check(Function(lambda x: x, (3,)))
    with pytest.raises(TypeError, match="DDRM needs a Spectral operator"):
        Warm(DDRM()).check(sf.operators.LinearFunction(lambda x: 2 * x, (3,)))
    Warm().check(Mask(torch.ones(3)))
    for wrong in ({"level": 0.0}, {"spread": -1.0}):
        with pytest.raises(ValueError, match="Warm: level and spread are positive"):
            Warm(**wrong)


def test_a_good_start_saves_calls():
    """Half of a smooth signal seen: at 6 calls the warm start has less error than pure noise has."""
    place = torch.linspace(0, 1, 16).double()
    cov = 0.25 * torch.exp(-0.5 * ((place[:, None] - place) / 0.15) ** 2) + 1e-4 * torch.eye(16).double()
    world, process = sf.GaussianWorld(torch.zeros(16).double(), cov), EDM()
    A = Mask((torch.arange(16) % 2 == 0).double())
    x0 = world.sample(200, sf.Noise(0))
    m = sf.Measurement.simulate(A, x0, sigma=0.0, noise=sf.Noise(1))
    D, inner = world.denoiser(process), DDNM(eta=1.0)
    errors = []
    for solver, times in ((Warm(inner, 1.0, 6), None), (inner, grids.log_snr(process, 6))):
        *_, last = solver.trajectory(D, m, sf.Noise(2), times=times)
        errors.append(float((last.x - x0).square().mean()))
    assert errors[0] < 0.6 * errors[1]
