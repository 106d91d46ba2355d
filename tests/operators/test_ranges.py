"""Clipping, quantisation, veils, and blurs that vary."""

import pytest
import torch

from sfumato import operators as ops
from sfumato.noise import Noise


def normal(*shape, seed=0):
    return Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


def test_clip():
    x = torch.tensor([[-0.9, -0.5, -0.2, 0.3, 0.6]])
    y = ops.Clip()(x)
    torch.testing.assert_close(y, torch.tensor([[-1.0, -1.0, -0.4, 0.6, 1.0]]))
    torch.testing.assert_close(ops.Clip()(ops.Clip().pinv(y)), y)
    torch.testing.assert_close(ops.Clip(1.0, 0.0, 0.5)(x), torch.tensor([[0.0, 0.0, 0.0, 0.3, 0.5]]))
    assert ops.Clip().event(y) == (5,) and not isinstance(ops.Clip(), ops.Linear)
    for gain, low, high in ((0.0, -1.0, 1.0), (1.0, 1.0, 1.0)):
        with pytest.raises(ValueError, match="low < high"):
            ops.Clip(gain, low, high)


def test_quantize_to_the_middle_of_the_bin():
    x = torch.tensor([[-5.0, -1.0, -0.51, -0.5, -0.01, 0.0, 0.49, 0.5, 1.0, 7.0]])
    y = ops.Quantize(2)(x)
    assert y.flatten().tolist() == pytest.approx([-0.75, -0.75, -0.75, -0.25, -0.25, 0.25, 0.25, 0.75, 0.75, 0.75])
    torch.testing.assert_close(ops.Quantize(2)(ops.Quantize(2).pinv(y)), y)
    eight = ops.Quantize(8, 0.0, 256.0)(torch.arange(256.0)[None] + 0.7)
    torch.testing.assert_close(eight, torch.arange(256.0)[None] + 0.5)
    assert ops.Quantize(2).event(y) == (10,)
    for bits, low, high in ((0, -1.0, 1.0), (1, 1.0, 1.0)):
        with pytest.raises(ValueError, match="at least 1 bit"):
            ops.Quantize(bits, low, high)


def test_quantize_passes_gradients_through():
    x = normal(2, 3).requires_grad_()
    (grad,) = torch.autograd.grad((ops.Quantize(1)(x) * torch.arange(3)).sum(), x)
    assert grad.tolist() == [[0, 1, 2]] * 2


def test_veil():
    x, veil = normal(2, 3, 4, 4).float(), normal(4, 4, seed=1)
    torch.testing.assert_close(ops.Veil(0.5, veil)(x), 0.5 * x + veil.float())
    transmission = normal(4, 4, seed=2)
    A = ops.Veil(0.5, veil).at((transmission, 2 * veil))
    torch.testing.assert_close(A(x), transmission.float() * x + 2 * veil.float())
    assert A.event(x) == (3, 4, 4) and not isinstance(A, ops.Linear)


def test_haze_and_low_light():
    """The share T of the scene arrives, the rest is airlight; a scene of the airlight's own color does not change."""
    T, x = torch.tensor([[0.25, 1.0], [0.0, 0.5]]).double(), torch.full((1, 1, 2, 2), 0.4).double()
    y = ops.Veil.haze(T, 0.8)(x)
    assert y.flatten().tolist() == pytest.approx([0.7, 0.4, 0.8, 0.6])
    torch.testing.assert_close(ops.Veil.haze(T, 0.4)(x), x)
    assert ops.Veil.haze(0.25)(x).flatten().tolist() == pytest.approx([0.85] * 4)
    factors = [ops.Veil.low_light(Noise(i), x).factor for i in range(400)]
    assert float(torch.stack(factors).std()) == pytest.approx(0.01, rel=0.15) and factors[0].ndim == 0
    dark = ops.Veil.low_light(Noise(0), torch.empty(3, 50, 50))
    assert dark.veil.shape == (3, 50, 50) and dark.veil.dtype == torch.float32
    assert 0 <= float(dark.veil.min()) < 1e-6 and 0.99e-4 < float(dark.veil.max()) <= 1e-4


def test_varying_blur_is_each_blur_where_its_weight_is_one():
    left, right = ops.Blur(normal(3, 3), (4, 6)), ops.Blur(normal(3, 3, seed=1), (4, 6))
    weights = torch.zeros(2, 4, 6)
    weights[0, :, :3] = 1
    weights[1, :, 3:] = 1
    x = normal(2, 1, 4, 6)
    y = ops.VaryingBlur((left, right), weights)(x)
    torch.testing.assert_close(y[..., :3], left(x)[..., :3], rtol=0, atol=1e-13)
    torch.testing.assert_close(y[..., 3:], right(x)[..., 3:], rtol=0, atol=1e-13)


def test_varying_blur_errors():
    small, large = ops.Blur(normal(3), (4,)), ops.Blur(normal(3), (5,))
    for blurs, weights in (((), torch.zeros(0, 4)), ((small, large), torch.zeros(2, 4)), ((small,), torch.zeros(2, 4))):
        with pytest.raises(ValueError, match="blurs of one size"):
            ops.VaryingBlur(blurs, weights)
