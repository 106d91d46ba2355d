import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Function, LinearFunction
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.samplers import DDIM
from sfumato.solvers.conditional import langevin, sample_gaussian
from sfumato.solvers.daps import DAPS, Conditional


class Tape(sf.Noise):
    """Hands out the same draws again after `rewind`."""

    def __init__(self):
        self.inner = sf.Noise(3)

    def rewind(self):
        self.inner = sf.Noise(3)
        return self

    def normal(self, like):
        return self.inner.normal(like)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "langevin"])
def test_a_step_is_ode_draw_and_noise(world, matrix, exact):
    """x_hat by DDIM over Karras levels to 0.01, x_0 about it with width sigma_t / alpha_t, then noise of level s."""
    process, t, s, tape = LinearBeta(), 0.6, 0.4, Tape()
    m, D = sf.Measurement(matrix, torch.tensor([[0.4, 0.2]]).double(), 0.3), world.denoiser(process)
    x = torch.tensor([[0.5, 1.0, -1.0]]).double()
    solver = (Conditional if exact else DAPS)(steps=10, ode_steps=4, moves=3, tau=0.2, size=1e-2)
    got, memory = solver.step(D, m, x, t, s, 5, tape)
    assert memory == 6
    level = process.sigma(t) / process.alpha(t)
    times = grids.karras(process, 5, start=t, sigma_min=0.01)[:-1]
    assert times[0] == t and len(times) == 5
    assert process.sigma(times[-1]) / process.alpha(times[-1]) == pytest.approx(0.01)
    x_hat = sf.sample(D, DDIM(), x1=x, times=times, noise=sf.Noise(0))
    tape.rewind()
    if exact:
        x0 = sample_gaussian(m, x_hat, level, tape)
    else:
        x0 = langevin(m, x_hat, level, tape, sigma=0.2, moves=3, size=1e-2 * (1 - 0.99 * 0.5))
    torch.testing.assert_close(got, process.marginal(x0, s).sample(tape), atol=1e-10, rtol=0)


def test_calls_of_the_network(world, matrix):
    for process in (LinearBeta(), EDM()):
        counted = sf.denoisers.Counted(world.denoiser(process))
        m = sf.Measurement(matrix, torch.ones(1, 2).double(), 0.3)
        Conditional(steps=6, ode_steps=5)(counted, m, sf.Noise(0))
        assert counted.calls == 30
        Conditional(ode_steps=1).step(counted, m, torch.zeros(1, 3).double(), 0.5, 0.4, 0, sf.Noise(0))
        assert counted.calls == 31


@pytest.mark.parametrize("process", [LinearBeta(), Rectified()], ids=lambda p: type(p).__name__)
def test_with_whole_and_exact_data_it_returns_them(world, process):
    m = sf.Measurement(sf.operators.Identity(), torch.tensor([[0.5, -0.2, 1.0]]).double(), 0.0)
    torch.testing.assert_close(Conditional(steps=4)(world.denoiser(process), m, sf.Noise(0)), m.y)


def test_times():
    times = DAPS(steps=4).times(LinearBeta())
    levels = [float(LinearBeta().sigma(t) / LinearBeta().alpha(t)) for t in times[:-1]]
    assert times[0] == 1.0 and times[-1] == 0.0 and len(times) == 5
    assert levels[-1] == pytest.approx(0.1) and levels[1] < 100.0
    assert DAPS(steps=4).times(EDM())[-1] == 0.0
    s = DAPS()
    assert (s.steps, s.ode_steps, s.high, s.low, s.moves, s.size, s.tau) == (200, 5, 100.0, 0.1, 100, 1e-4, 0.01)


def test_operators(world):
    bent = sf.Measurement(Function(lambda x: x.abs(), (3,)), torch.ones(1, 3).double(), 0.1)
    D = world.denoiser(LinearBeta())
    x = DAPS(steps=5, moves=300)(D, bent, sf.Noise(0))
    torch.testing.assert_close(x.abs(), bent.y, atol=0.1, rtol=0)
    with pytest.raises(TypeError, match="Conditional needs a Linear operator"):
        Conditional(steps=2)(D, bent, sf.Noise(0))
    linear = sf.Measurement(LinearFunction(lambda x: x[:, :1], (3,)), torch.ones(1, 1).double(), 0.0)
    torch.testing.assert_close(Conditional(steps=3)(D, linear, sf.Noise(0))[:, :1], linear.y)


def test_a_scale_for_each_element_is_an_error(world, matrix):
    process = sf.processes.Anchored(LinearBeta(), torch.zeros(1, 3).double(), torch.tensor([[0.5, 1.0, 2.0]]).double())
    m = sf.Measurement(matrix, torch.ones(1, 2).double(), 0.3)
    with pytest.raises(ValueError, match="one noise level for all elements"):
        Conditional(steps=2)(world.denoiser(process), m, sf.Noise(0))


def test_below_the_end_of_the_ode_it_is_one_step_to_the_mean(world, matrix):
    process, t = LinearBeta(), 0.0005
    assert process.sigma(t) / process.alpha(t) < 0.01
    x, m = torch.tensor([[0.5, 1.0, -1.0]]).double(), sf.Measurement(matrix, torch.ones(1, 2).double(), 1e6)
    counted = sf.denoisers.Counted(world.denoiser(process))
    tape = Tape()
    got, _ = Conditional().step(counted, m, x, t, 0.0, 0, tape)
    x_hat = world.denoiser(process)(x, t).mean
    want = sample_gaussian(m, x_hat, process.sigma(t) / process.alpha(t), tape.rewind())
    torch.testing.assert_close(got, want, atol=1e-9, rtol=0)
    assert counted.calls == 1
