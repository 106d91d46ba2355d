"""Memory: the counter against sums by hand, the estimate against a run, low memory against the plain result."""

import pytest
import torch

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Counted
from sfumato.noise import Noise
from sfumato.operators import Downsample, Mask, Measurement
from sfumato.recipes.edm import Recipe
from sfumato.solvers import DDRM, DPS, TDS, DiffPIR, PiGDM
from sfumato.zoo import Model, model
from sfumato.zoo.memory import Live, per_number


def test_live_counts_what_is_alive():
    with Live() as live:
        a = torch.zeros(100)
        b = a + 1
        view = b.reshape(10, 10)[2:]
        assert live.now == live.peak == 800
        del a
        assert live.now == 400
        del b
        assert live.now == 400  # the view holds it
        view.add_(1)
        del view
        assert live.now == 0 and live.peak == 800
        c = torch.ones(50, dtype=torch.float64)
        assert live.now == 400
    del c
    assert live.peak == 800 and live.now == 0


def test_what_was_there_before_does_not_count():
    a = torch.zeros(1000)
    with Live() as live:
        a.mul_(2)
        a.reshape(10, 100)
    assert live.peak == 0


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    denoiser = Recipe(channels=1, widths=(16, 16), blocks=1).model()
    return denoiser.requires_grad_(False)


@pytest.mark.parametrize("gradient", [False, True])
def test_activations_grow_with_the_area(network, gradient):
    """The figure of a picture of 64 x 64 holds for others, within a few hundredths."""
    figure = per_number(network, (1, 500, 300), gradient=gradient)
    x = torch.zeros(3, 1, 48, 40, requires_grad=gradient)
    with torch.set_grad_enabled(gradient), Live() as live:
        mean = network(x, 0.5).mean
        if gradient:
            torch.autograd.grad(mean.sum(), x)
    assert live.peak / x.numel() == pytest.approx(figure, rel=0.03)
    if gradient:
        assert figure > 3 * per_number(network, (1, 500, 300), gradient=False)


def small(monkeypatch):
    """Pictures count as large from 33 numbers a side; windows of 32."""
    for name, value in (("LARGE", 32), ("WINDOW", 32), ("OVERLAP", 8)):
        monkeypatch.setattr(model, name, value)


def measured(network, size, rows=1):
    A = Downsample(2)
    x = Noise(0).uniform(torch.empty(rows, 1, *size))
    m = Measurement.simulate(A, x, sigma=0.05, noise=Noise(1))
    return Model(Affine.unit(), network, {"event": [1, None, None]}), m


@pytest.mark.parametrize("solver", [DPS(steps=2), DDRM(steps=2), PiGDM(steps=2), DiffPIR(steps=2)])
@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize(("size", "samples"), [((32, 32), 4), ((96, 80), 1)])
def test_the_estimate_is_what_a_run_takes(network, monkeypatch, solver, low, size, samples):
    """Within the room that a solver's own tensors of the state take."""
    small(monkeypatch)
    whole, m = measured(network, size)
    with Live() as live:
        whole.restore(m, solver=solver, samples=samples, low_memory=low)
    said = whole.memory(m, solver, samples=samples, low_memory=low)
    assert 0.65 * said < live.peak < 1.35 * said


@pytest.mark.parametrize("solver", [DPS(steps=3), TDS(steps=3, particles=3), PiGDM(steps=3), DDRM(steps=3)])
def test_low_memory_is_the_same_result_for_less(network, monkeypatch, solver):
    small(monkeypatch)
    for size, samples in (((16, 16), 6), ((80, 80), 1)):
        whole, m = measured(network, size)
        results, peaks, calls = [], [], []
        for low in (False, True):
            counted = Counted(network)
            with Live() as live:
                twin = Model(whole.codec, counted, whole.config)
                results.append(twin.restore(m, solver=solver, samples=samples, low_memory=low).samples)
            peaks.append(live.peak)
            calls.append(counted.calls)
        torch.testing.assert_close(results[1], results[0], rtol=0, atol=2e-4)
        if solver.differentiates:
            assert peaks[1] < 0.5 * peaks[0]
            assert whole.memory(m, solver, samples=samples, low_memory=True) < 0.6 * whole.memory(
                m, solver, samples=samples
            )


def test_memory_does_not_grow_with_the_picture_but_for_the_state(network, monkeypatch):
    """Four times the area: the difference is a handful of tensors of the state, whatever the network holds."""
    small(monkeypatch)
    peaks = []
    for side in (64, 128, 256):
        whole, m = measured(network, (side, side))
        with Live() as live:
            whole.restore(m, solver=DDRM(steps=2))
        peaks.append(live.peak)
    per_number_of_state = (peaks[2] - peaks[1]) / (256**2 - 128**2)
    assert per_number_of_state < 4 * 14
    assert peaks[2] < 0.3 * per_number(network, (1, 64, 64), gradient=False) * 256**2 + peaks[0]


def test_every_solver_says_whether_it_differentiates(network):
    """Seen from inside: does the state that the network gets ask for a gradient?"""
    from sfumato import solvers

    world = sf.GaussianWorld(torch.zeros(4).double(), torch.eye(4).double())
    inner = world.denoiser(sf.processes.LinearBeta())

    class Spy(Counted):
        asked = False

        def forward(self, xt, t, cond=None):
            self.asked |= xt.requires_grad
            return super().forward(xt, t, cond)

    m = Measurement(Mask(torch.tensor([1.0, 1.0, 0.0, 1.0])), torch.ones(1, 4).double(), 0.1)
    short = {"DAPS": {"steps": 2, "moves": 1}, "PnPDM": {"steps": 2, "prior_steps": 2}, "DPnP": {"steps": 2}}
    checked = []
    for name in solvers.__all__:
        make = getattr(solvers, name)
        if name in ("Guided", "Solver", "ILVR", "SDEdit", "CCDF"):
            continue
        spy = Spy(inner)
        try:
            solver = make(**short.get(name, {"steps": 3}))
            solver(spy, m, Noise(0))
        except (TypeError, ValueError):  # made for another operator, or of other parts than numbers
            continue
        assert spy.asked == solver.differentiates, name
        checked.append(name)
    assert {"DDRM", "DDNM", "DPS", "DiffPIR", "MMPS", "PiGDM", "TDS", "DAPS", "REDDiff", "CoPaint"} <= set(checked)
    assert len(checked) >= 18
