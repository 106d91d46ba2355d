"""What every solver owes to the protocol."""

import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Function, Identity, LinearFunction, Mask, Matrix, Spectral
from sfumato.processes import EDM, Anchored, Geometric, LinearBeta, Rectified, Table
from sfumato.samplers import DDIM, Ancestral
from sfumato.solvers import DDNM, DDRM, DPS, MMPS, DiffPIR, Solver

SOLVERS = [DDRM(), DDNM(steps=20), DPS(steps=20), DiffPIR(steps=20), MMPS(steps=20)]
NAMES = [type(s).__name__ for s in SOLVERS]
every = pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)


def _measured(world, A, n=2, sigma=0.1):
    return sf.Measurement.simulate(A, world.sample(n, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))


@pytest.mark.parametrize(
    "solver, wrapped", [(s, w) for s in SOLVERS for w in (False, True) if not (w and s.needs is Spectral)], ids=str
)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_a_sample_does_not_know_its_batch(world, matrix, solver, wrapped, sigma):
    A = LinearFunction(lambda x: x @ matrix.A.to(x.dtype).T, (3,)) if wrapped else matrix
    m, D = _measured(world, A, sigma=sigma), world.denoiser(LinearBeta())
    both = solver(D, m, sf.Seeds([3, 4]))
    for i, seed in enumerate((3, 4)):
        alone = solver(D, sf.Measurement(A, m.y[i : i + 1], sigma), sf.Seeds([seed]))
        torch.testing.assert_close(both[i : i + 1], alone, atol=1e-12, rtol=0)
    swapped = solver(D, sf.Measurement(A, m.y.flip(0), sigma), sf.Seeds([4, 3]))
    torch.testing.assert_close(swapped.flip(0), both, atol=1e-12, rtol=0)


@every
def test_seeds_of_another_length_are_an_error(world, matrix, solver):
    with pytest.raises(ValueError, match="Seeds has 3 streams"):
        solver(world.denoiser(LinearBeta()), _measured(world, matrix), sf.Seeds(range(3)))


@every
def test_repeated_measurements_give_different_samples(world, matrix, solver):
    x = solver(world.denoiser(LinearBeta()), _measured(world, matrix, n=1).repeat(2), sf.Seeds([0, 1]))
    assert float((x[0] - x[1]).norm()) > 1e-3


@every
def test_nothing_seen_is_the_prior_sampler(world, solver):
    """A = 0: each solver is the sampler that it is built on."""
    D, times = world.denoiser(LinearBeta()), grids.uniform(10)
    m = sf.Measurement(Matrix(torch.zeros(2, 3).double()), torch.zeros(2, 2).double(), 0.1)
    x1 = sf.Noise(9).normal(torch.zeros(2, 3).double())
    got = list(solver.trajectory(D, m, sf.Noise(1), x1=x1, times=times))[-1].x
    if isinstance(solver, MMPS | DPS):
        sampler = DDIM(0.0) if isinstance(solver, MMPS) else DDIM(1.0)
        want = sf.sample(D, sampler, x1=x1, times=times, noise=sf.Noise(1))
    else:
        eta = solver.zeta**0.5 if isinstance(solver, DiffPIR) else solver.eta
        want = list(DDNM(eta=eta).trajectory(D, m, sf.Noise(1), x1=x1, times=times))[-1].x
    torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


@every
@pytest.mark.parametrize("process", [Rectified(), LinearBeta(), EDM(), Geometric()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_one_step(world, matrix, solver, process, sigma):
    """From t = 1 to 0 at once, where the state says (nearly) nothing: the mean of x_0, corrected."""
    m, D = _measured(world, matrix, sigma=sigma), world.denoiser(process)
    x1 = process.prior(torch.zeros(2, 3).double()).sample(sf.Noise(1))
    got = list(solver.trajectory(D, m, sf.Noise(2), x1=x1, times=(1.0, 0.0)))[-1].x
    mean = world.mean.expand(2, 3)
    if isinstance(solver, MMPS):
        ys = [sf.Measurement(matrix, y[None], sigma) for y in m.y]
        mean = torch.stack([world.posterior(y).mean for y in ys])
    elif isinstance(solver, DDRM | DDNM) and sigma == 0.0:
        mean = mean + matrix.pinv(m.y - matrix(mean))
    torch.testing.assert_close(got, mean, atol=0.1, rtol=0)
    if process == Rectified():
        torch.testing.assert_close(got, mean, atol=2e-3, rtol=0)


@pytest.mark.parametrize("solver", [DDRM(), DDNM(steps=20), MMPS(steps=20)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("process", [Rectified(), EDM()], ids=lambda p: type(p).__name__)
def test_the_whole_seen_without_noise(world, solver, process):
    """A = I, sigma_y = 0: y itself, up to the last level of the process."""
    m, D = _measured(world, Identity(), sigma=0.0), world.denoiser(process)
    x = solver(D, m, sf.Noise(0))
    torch.testing.assert_close(x, m.y, atol=1e-6 + 5 * process.sigma(0.0), rtol=0)


@every
def test_state_keeps_the_dtype_of_y(world, solver):
    m = _measured(world, Mask(torch.tensor([1.0, 0.0, 1.0])))
    single = sf.Measurement(m.operator, m.y.float(), 0.1)
    assert solver(world.denoiser(LinearBeta()), single, sf.Noise(0)).dtype == torch.float32
    assert solver(world.denoiser(LinearBeta()), m, sf.Noise(0)).dtype == torch.float64


def test_real_state_of_complex_measurements(world):
    A = Function(torch.fft.fft, (3,))
    m = _measured(world, A, sigma=0.0)
    x = DPS(steps=5)(world.denoiser(LinearBeta()), m, sf.Noise(0))
    assert m.y.is_complex() and x.dtype == torch.float64


def test_abilities(world, matrix):
    linear = LinearFunction(lambda x: x[:, :1], (3,))
    bent, D = Function(lambda x: x.abs(), (3,)), world.denoiser(LinearBeta())
    for solver, A, words in [
        (DDRM(), linear, r"DDRM needs a Spectral operator, got LinearFunction \(Linear\). Use DDNM, DiffPIR or MMPS"),
        (DDRM(), bent, r"DDRM needs a Spectral operator, got Function \(Operator\). Use DPS"),
        (DDNM(), bent, r"DDNM needs a Linear operator, got Function \(Operator\). Use DPS"),
        (DiffPIR(), bent, r"DiffPIR needs a Linear"),
        (MMPS(), bent, r"MMPS needs a Linear"),
    ]:
        with pytest.raises(TypeError, match=words):
            solver(D, _measured(world, A), sf.Noise(0))
    for solver in (DDNM(steps=2), DiffPIR(steps=2), MMPS(steps=2), DPS(steps=2)):
        assert solver(D, _measured(world, linear), sf.Noise(0)).shape == (2, 3)


def test_divergence_names_its_step(world, matrix):
    class Breaks(sf.denoisers.Denoiser):
        process = LinearBeta()

        def forward(self, xt, t, cond=None):
            return sf.Estimate(xt / 0.0 if t < 0.5 else 0.0 * xt)

    steps = DDNM().trajectory(Breaks(), _measured(world, matrix), sf.Noise(0), times=grids.uniform(4))
    with pytest.raises(FloatingPointError, match=r"DDNM diverged at step 4 \(t = 0.0\)"):
        for step in steps:
            assert step.index < 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_seen(world, matrix, value):
    """Among others, and beside its opposite; large numbers of half precision are finite, though their sum is not."""
    from sfumato.solvers.base import _finite

    x = torch.ones(2, 3).double()
    x[1, 2] = value
    assert not _finite(x) and not _finite(torch.stack([x, -x]))
    assert _finite(torch.full((9,), 6e4, dtype=torch.float16)) and _finite(torch.zeros(0))


def test_start(world, matrix, given):
    """The prior at t = 1; below it noise of that level about the shift, and no data."""
    m, z = _measured(world, matrix), torch.ones(2, 3).double()
    anchor = Anchored(Rectified(), torch.full((1, 3), 2.0).double())
    for process, t, value in [
        (EDM(), 1.0, 80.0),
        (LinearBeta(), 1.0, 1.0),
        (Rectified(), 0.9, 0.9),
        (anchor, 0.5, 1.5),
    ]:
        x = DDNM().start(world.denoiser(process), m, t, given(z))
        torch.testing.assert_close(x, value * z)


def test_a_start_that_holds_data_must_be_given(world, matrix, ddpm):
    m, D = _measured(world, matrix), world.denoiser(ddpm)
    with pytest.raises(ValueError, match=r"DDRM would start at t = 0.001.*give `x1`"):
        DDRM(steps=1)(D, m, sf.Noise(0))
    x1 = ddpm.marginal(world.sample(2, sf.Noise(5)), 0.3).sample(sf.Noise(1))
    steps = list(DDRM().trajectory(D, m, sf.Noise(0), x1=x1, times=(0.3, 0.1, 0.0)))
    assert [s.time for s in steps] == [0.3, 0.1, 0.0] and steps[0].x is x1
    half = Rectified().time_of(-1.3862943611)
    assert len(list(DDNM().trajectory(world.denoiser(Rectified()), m, sf.Noise(0), times=(half + 1e-6, 0.0)))) == 2
    with pytest.raises(ValueError, match="no longer pure noise"):
        next(DDNM().trajectory(world.denoiser(Rectified()), m, sf.Noise(0), times=(half - 1e-6, 0.0)))


def test_the_default_grid_is_uniform_in_log_snr():
    class Plain(Solver):
        steps = 7

        def step(self, denoiser, m, xt, t, s, memory, noise):
            return xt, memory

    assert Plain().times(LinearBeta()) == grids.log_snr(LinearBeta(), 7)


def test_more_steps_than_the_table_has(world, matrix):
    short = Table.linear(50)
    with pytest.raises(ValueError, match="50 levels"):
        DPS(steps=100)(world.denoiser(short), _measured(world, matrix), sf.Noise(0))


def test_a_guide_runs_any_sampler(world, matrix):
    """MMPS with a sampler is that sampler on the guided denoiser."""
    m, D, times = _measured(world, matrix), world.denoiser(LinearBeta()), grids.uniform(6)
    x1 = sf.Noise(9).normal(torch.zeros(2, 3).double())
    for sampler in (Ancestral(), sf.samplers.Heun()):
        solver = MMPS(sampler=sampler)
        got = list(solver.trajectory(D, m, sf.Noise(1), x1=x1, times=times))[-1].x
        want = sf.sample(solver.guide(D, m), sampler, x1=x1, times=times, noise=sf.Noise(1))
        torch.testing.assert_close(got, want, atol=0, rtol=0)


def test_recipes():
    from sfumato.solvers import ddnm, ddrm, diffpir, dps

    assert (ddnm.Recipe, ddrm.Recipe, diffpir.Recipe, dps.Recipe) == (DDNM, DDRM, DiffPIR, DPS)
