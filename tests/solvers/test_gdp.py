import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import MeanOnly
from sfumato.operators import Clip, Function, Matrix, Veil
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.samplers import Ancestral
from sfumato.solvers import GDP


@pytest.fixture
def states():
    return sf.Noise(9).normal(torch.zeros(3, 3).double())


@pytest.mark.parametrize("at", ["x0", "xt"])
def test_without_guidance_it_is_the_prior_sampler(world, measured, states, at):
    D, times = world.denoiser(LinearBeta()), grids.uniform(8)
    got = list(GDP(scale=0.0, at=at).trajectory(D, measured, sf.Noise(1), x1=states, times=times))[-1].x
    want = sf.sample(MeanOnly(D), Ancestral(), x1=states, times=times, noise=sf.Noise(1))
    torch.testing.assert_close(got, want, atol=0, rtol=0)


@pytest.mark.parametrize("process", [LinearBeta(), Rectified(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t, s", [(0.9, 0.8), (0.2, 0.0)])
@pytest.mark.parametrize("at", ["x0", "xt"])
def test_the_pull(world, matrix, measured, states, process, t, s, at):
    """x_s moves by scale 2 / n A^T (y - A u) / 4, u = D or x_t, n numbers in y, on [-1, 1]; no Jacobian, no alpha_s."""
    D = world.denoiser(process)
    moved, free = (GDP(scale=k, at=at).step(D, measured, states, t, s, None, sf.Noise(2))[0] for k in (12.0, 0.0))
    u = D(states, t).mean if at == "x0" else states
    expected = 12.0 * 2 / 2 * matrix.adjoint(measured.y - matrix(u)) / 4
    torch.testing.assert_close(moved - free, expected, atol=1e-10, rtol=1e-10)
    whole = GDP(scale=12.0, at=at, span=1.0).step(D, measured, states, t, s, None, sf.Noise(2))[0]
    torch.testing.assert_close(whole - free, 4 * expected, atol=1e-10, rtol=1e-10)


def test_no_pass_back_through_the_network(world, measured, states):
    """GDP-x_0 needs no gradient of the denoiser."""

    class Opaque(sf.denoisers.Denoiser):
        process = LinearBeta()

        def forward(self, xt, t, cond=None):
            assert not torch.is_grad_enabled()
            return sf.Estimate(xt.detach())

    with torch.no_grad():
        x, _ = GDP(scale=1.0).step(Opaque(), measured, states, 0.5, 0.4, None, sf.Noise(0))
    assert not x.requires_grad


def test_stronger_guidance_is_closer_to_y(world, matrix, measured):
    D, errors = world.denoiser(LinearBeta()), []
    for scale in (0.0, 0.5, 2.0):
        x = GDP(steps=50, scale=scale)(D, measured.repeat(20), sf.Noise(0))
        errors.append(float((measured.repeat(20).y - matrix(x)).norm()))
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.2 * errors[2]


@pytest.fixture
def known():
    """Data that is all but one known picture of eight numbers, and its look through y = 0.6 x + 0.25."""
    mean = torch.linspace(-1.0, 1.0, 8).double() ** 3
    world = sf.GaussianWorld(mean, 1e-6 * torch.eye(8).double())
    start = Veil(torch.tensor(0.01), torch.zeros(1))
    return world, sf.Measurement(start, (0.6 * mean + 0.25).expand(2, 8), 0.0)


def test_factor_and_veil_are_found_where_the_picture_is_known(known):
    world, m = known
    last = list(
        GDP(steps=100, scale=0.0, blind=True, span=1.0, rate=0.5).trajectory(
            world.denoiser(LinearBeta()), m, sf.Noise(0)
        )
    )[-1]
    f, veil = last.memory
    torch.testing.assert_close(f, torch.full((2, 1), 0.6).double(), atol=2e-3, rtol=0)
    torch.testing.assert_close(veil, torch.full((2, 1), 0.25).double(), atol=2e-3, rtol=0)
    assert float(m.operator.factor) == pytest.approx(0.01)


def test_one_update_of_the_parameters(known, given):
    """f - grad_f mse and M - grad_M mse, from the same residual; the gradient in x that counts is that of the last."""
    world, m = known
    D, process, x = world.denoiser(LinearBeta()), LinearBeta(), torch.zeros(2, 8).double()
    solver = GDP(scale=3.0, blind=True, updates=2, span=1.0, rate=0.5)
    u = D(x, 0.5).mean
    f, veil = 0.01, 0.0
    for _ in range(2):
        gap = m.y - f * u - veil
        g = -2 * f * gap / 8
        f, veil = (
            f + 0.5 * 2 * (gap * u).mean(1, keepdim=True),
            veil + 0.5 * 2 * gap.mean(1, keepdim=True),
        )
    got, memory = solver.step(D, m, x, 0.5, 0.4, solver.init(D, m, x), given(torch.zeros_like(x)))
    free = process.reverse(sf.Estimate(u), x, 0.5, 0.4).mean
    torch.testing.assert_close(got, free - 3.0 * g, atol=1e-8, rtol=0)
    torch.testing.assert_close(memory[0], f, atol=1e-8, rtol=0)
    torch.testing.assert_close(memory[1], veil, atol=1e-8, rtol=0)


def test_a_veil_for_each_pixel(world, given):
    """Its gradient is the residual's own, 2 / n each; one set of parameters for each row."""
    veil, x = torch.tensor([0.1, 0.0, -0.1]), torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]]).double()
    m = sf.Measurement(Veil(0.5, veil), torch.ones(2, 3).double(), 0.0)
    solver = GDP(scale=0.0, at="xt", blind=True, span=1.0)
    start = solver.init(None, m, x)
    assert [p.shape for p in start] == [(2, 1), (2, 3)]
    _, (f, found) = solver.step(world.denoiser(LinearBeta()), m, x, 0.5, 0.4, start, given(torch.zeros_like(x)))
    gap = 1.0 - 0.5 * x - veil.double()
    torch.testing.assert_close(found, veil + 2 / 3 * gap, atol=1e-8, rtol=0)
    torch.testing.assert_close(f, 0.5 + 2 / 3 * (gap * x).sum(1, keepdim=True), atol=1e-8, rtol=0)


def test_any_operator(world, states):
    bent = sf.Measurement(Function(lambda x: x[:, 0].abs(), (3,)), torch.ones(3).double(), 0.0)
    D = world.denoiser(LinearBeta())
    moved, free = (GDP(scale=k, at="xt").step(D, bent, states, 0.5, 0.4, None, sf.Noise(0))[0] for k in (4.0, 0.0))
    expected = 2 * (1 - states[:, 0].abs()) * states[:, 0].sign()
    torch.testing.assert_close((moved - free)[:, 0], expected, atol=1e-12, rtol=0)
    assert float((moved - free)[:, 1:].abs().max()) == 0.0


def test_parameters_of_an_operator():
    veil = Veil(0.5, torch.zeros(3))
    assert veil.parameters == (veil.factor, veil.veil)
    x = torch.ones(1, 3)
    torch.testing.assert_close(veil.at(veil.parameters)(x), veil(x))
    with pytest.raises(TypeError, match="Clip has no parameters to estimate"):
        _ = Clip().parameters


def test_blind_needs_parameters(world, measured):
    with pytest.raises(TypeError, match="Matrix has no parameters to estimate"):
        GDP(steps=2, blind=True)(world.denoiser(LinearBeta()), measured, sf.Noise(0))
    assert isinstance(measured.operator, Matrix)


def test_scales_of_the_public_scripts(ddpm):
    assert [v.scale for v in (GDP(), GDP.inpainting(), GDP.deblurring())] == [2000.0, 4000.0, 6000.0]
    light = GDP.low_light()
    assert (light.scale, light.blind, light.updates, light.rate, light.at) == (80000.0, True, 6, 1.0, "x0")
    assert GDP().times(ddpm) == tuple(n / 1000 for n in range(1000, -1, -1))


def test_batches(world, measured, alone):
    D = world.denoiser(LinearBeta())
    for at in ("x0", "xt"):
        alone(GDP(steps=8, scale=1.0, at=at), D, measured)
    blind = sf.Measurement(Veil(0.3, torch.zeros(3)), world.sample(3, sf.Noise(1)), 0.0)
    alone(GDP(steps=8, scale=1.0, blind=True, updates=2), D, blind)


@pytest.mark.parametrize(
    "settings, words", [({"at": "y"}, "x0 or xt"), ({"span": 0.0}, "span"), ({"updates": 0}, "update")]
)
def test_settings(settings, words):
    with pytest.raises(ValueError, match=f"GDP: .*{words}"):
        GDP(**settings)
