"""Blurs of light and by a network."""

import pytest
import torch

from sfumato import operators as ops
from sfumato.codecs import Affine
from sfumato.noise import Noise
from sfumato.operators import CameraBlur, Measurement, NetworkBlur
from sfumato.operators.nonlinear_blur import encoded, light

PAIR = ops.Blur(torch.tensor([[0.5, 0.5]]), (1, 4))  # the mean of two neighbours
SPOT = ops.Blur(torch.tensor([[1.0]]), (1, 4))


def test_the_curve_is_that_of_srgb():
    """Values of the standard's tables: half the code is 21.4 % of the light, half the light the code 0.7354."""
    x = torch.tensor([0.0, 0.04045, 0.5, 1.0]).double()
    torch.testing.assert_close(light(x), torch.tensor([0.0, 0.0031308, 0.2140411, 1.0]).double(), atol=1e-6, rtol=0)
    assert float(encoded(torch.tensor(0.5).double())) == pytest.approx(0.7353570, abs=1e-6)
    line = torch.linspace(-0.5, 1.5, 999).double()
    torch.testing.assert_close(encoded(light(line)), line, atol=1e-12, rtol=0)
    assert bool((light(line).diff() > 0).all()) and float(light(line).diff().diff().abs().max()) < 1e-4


def test_light_is_blurred_and_clipped():
    x = torch.tensor([[[[0.0, 0.0, 1.0, 0.0]]]]).double()
    y = CameraBlur(PAIR)(x)[0, 0, 0]
    assert y.sort().values.tolist() == pytest.approx([0.0, 0.0, 0.7353570, 0.7353570], abs=1e-6)
    assert CameraBlur(PAIR, 2.0)(x)[0, 0, 0].sort().values.tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=1e-12)
    assert float(CameraBlur(PAIR, 50.0)(x).max()) == pytest.approx(1.0, abs=1e-12)
    grey = torch.full((1, 1, 1, 4), 0.3).double()
    torch.testing.assert_close(CameraBlur(PAIR)(grey), grey, atol=1e-12, rtol=0)
    bright = Noise(0).uniform(torch.zeros(2, 1, 1, 4).double())
    torch.testing.assert_close(CameraBlur(SPOT)(bright), bright, atol=1e-12, rtol=0)
    doubled = encoded(2 * light(torch.tensor(0.3).double()))
    assert float(CameraBlur(SPOT, 2.0)(grey).mean()) == pytest.approx(float(doubled))


def test_it_has_a_gradient_at_black_and_none_in_full_sensors():
    x = torch.tensor([[[[-0.1, 0.0, 0.5, 1.4]]]]).double().requires_grad_()
    (g,) = torch.autograd.grad(CameraBlur(SPOT)(x).sum(), x)
    torch.testing.assert_close(g.flatten(), torch.tensor([1.0, 1.0, 1.0, 0.0]).double(), atol=1e-9, rtol=0)
    at = Noise(1).uniform(torch.zeros(1, 1, 1, 4).double()).requires_grad_()
    assert torch.autograd.gradcheck(CameraBlur(PAIR, 0.8), at)


def test_its_kernel_and_its_rows():
    y = torch.zeros(3, 1, 1, 4)
    A = CameraBlur(PAIR, 1.5)
    assert A.event(y) == (1, 1, 4) and torch.equal(A.parameters, PAIR.parameters)
    x = Noise(2).uniform(torch.zeros(3, 1, 1, 4).double())
    torch.testing.assert_close(A.at(SPOT.parameters)(x), CameraBlur(ops.Blur(SPOT.parameters, (1, 4)), 1.5)(x))
    own = CameraBlur(ops.Blur(torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])[:, None], (1, 4)), 1.5)
    m = Measurement(own, own(x[:2]), 0.01)
    torch.testing.assert_close(m.rows([1]).operator(x[1:2]), m.y[1:])
    inner = m.to_model(Affine.unit())
    torch.testing.assert_close(inner.residual(2 * x[:2] - 1), torch.zeros_like(m.y), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="an exposure is positive, got 0"):
        CameraBlur(PAIR, 0.0)


def shifted(x, code):
    return x + code


def test_a_network_with_its_code():
    """The same blur at every call; a code for all rows or one for each; differentiable in both; held to [0, 1]."""
    A = NetworkBlur.drawn(shifted, Noise(3), (1, 2, 2))
    assert A.code.shape == (1, 1, 2, 2)
    wide = NetworkBlur.drawn(shifted, Noise(3)).code
    assert wide.shape == (1, 512, 2, 2) and float(wide.std()) == pytest.approx(1.2, rel=0.06)
    x = torch.full((3, 1, 2, 2), 0.5).double().requires_grad_()
    assert torch.equal(A(x), A(x)) and A.event(x) == (1, 2, 2)
    torch.testing.assert_close(A(x), (0.5 + A.code.double()).clamp(0, 1).expand(3, 1, 2, 2))
    free = NetworkBlur(shifted, torch.tensor([0.2, 0.9, -0.7]).reshape(3, 1, 1, 1), clip=False)
    assert free(x).flatten(1)[:, 0].tolist() == pytest.approx([0.7, 1.4, -0.2])
    m = Measurement(free, free(x).detach(), 0.1)
    assert m.rows([2, 0]).operator(x[:2]).flatten(1)[:, 0].tolist() == pytest.approx([-0.2, 0.7])
    assert torch.equal(A.of_rows([2, 0], x).code, A.code) and torch.equal(free.parameters, free.code)
    code = torch.zeros(1, 1, 2, 2).double().requires_grad_()
    (g,) = torch.autograd.grad(A.at(code)(x).sum(), code)
    assert g.tolist() == [[[[3.0, 3.0], [3.0, 3.0]]]]
