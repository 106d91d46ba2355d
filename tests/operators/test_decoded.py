"""A decoder in front of an operator."""

import math

import pytest
import torch
from linear_codec import Coded

from sfumato import operators as ops
from sfumato.codecs import Affine, Latent, Logit
from sfumato.nets import Autoencoder
from sfumato.noise import Noise
from sfumato.operators import Decoded, Measurement
from sfumato.operators.levels import chi_square

W = torch.tensor([[1.0, 0.5], [0.0, 2.0]]).double()


def net(**fields):
    torch.manual_seed(0)
    return Autoencoder(1, 3, (4, 6), **fields).double()


def coder(**fields):
    stats = torch.tensor([0.1, -0.2, 0.3]).double(), torch.tensor([0.5, 2.0, 1.5]).double()
    return Latent(net(), *stats, **fields)


def test_it_is_the_operator_of_the_decoded():
    """Value and gradient; the shape of a code; a mask's own rows and what it leaves empty."""
    mask = ops.Mask(torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double())
    A, z = Decoded(mask, Coded(W)), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double().requires_grad_()
    assert A(z).tolist() == [[2.0, 0.0], [0.0, 8.0]]
    (g,) = torch.autograd.grad(A(z).sum(), z)
    assert g.tolist() == [[1.0, 0.5], [0.0, 2.0]]
    assert A.event(z) == (2,) and not isinstance(A, ops.Linear)
    m = Measurement(A, A(z).detach(), 0.1)
    assert m.rows([1]).residual(z[1:].detach() + 1.0).tolist() == [[0.0, -2.0]]
    assert m.seen.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert Measurement(Decoded(ops.Matrix(W), Coded(W)), z.detach(), 0.1).seen.item() == 1.0
    noisy = Measurement.simulate(A, z.detach(), sigma=0.3, noise=Noise(0))
    assert noisy.y[0, 1] == noisy.y[1, 0] == 0.0 and noisy.y[0, 0] != 2.0
    assert chi_square(m, z.detach() + torch.tensor([0.1, 0.0])).tolist() == pytest.approx([1.0, 0.0])


def test_its_parameters_are_those_of_the_operator():
    veil = ops.Veil(0.5, torch.zeros(1))
    A = Decoded(veil, Affine(3.0, 1.0))
    assert A.parameters == veil.parameters
    assert A.at((2.0, torch.ones(1)))(torch.ones(1, 1)).item() == 9.0


def test_a_measurement_in_codes():
    """Any codec that is not affine, and any noise that is not Gaussian, puts its decoder there; y stays."""
    y = torch.tensor([[0.4, 0.6]]).double()
    for codec, operator, likelihood in (
        (Logit(), ops.Matrix(W), None),
        (Affine(0.5, 0.1), ops.Clip(), None),
        (Affine(0.5, 0.1), ops.Matrix(W), ops.Poisson(10.0)),
    ):
        sigma = 0.0 if likelihood else 0.1
        m = Measurement(operator, y, sigma, likelihood).to_model(codec)
        assert isinstance(m.operator, Decoded) and m.operator.outer is operator and m.operator.codec is codec
        assert torch.equal(m.y, y) and m.sigma == sigma and m.likelihood is likelihood
        z = torch.tensor([[0.3, -0.2]]).double()
        torch.testing.assert_close(m.operator(z), operator(codec.decode(z)))


def test_an_affine_stage_stays_linear():
    """Pixels in [0, 1] around an autoencoder of [-1, 1]: y and sigma move to the unit of the autoencoder's data, where
    the operator is what it was; the measurement says the same of any code."""
    codec, z = coder(outer=Affine.unit()), Noise(1).normal(torch.zeros(2, 3, 4, 4).double())
    m = Measurement.simulate(ops.Downsample(2), codec.decode(z), sigma=0.03, noise=Noise(2))
    inner = m.to_model(codec)
    assert isinstance(inner.operator, Decoded) and isinstance(inner.operator.outer, ops.Downsample)
    assert inner.sigma == pytest.approx(0.06) and inner.event == (3, 4, 4)
    torch.testing.assert_close(inner.y, 2 * m.y - 1)
    other = z + 0.3
    torch.testing.assert_close(inner.residual(other), 2 * m.residual(codec.decode(other)))
    x = inner.operator.codec.decode(z)
    torch.testing.assert_close(Affine.unit().decode(x), codec.decode(z))
    torch.testing.assert_close(inner.operator.codec.encode(x), codec.encode(codec.decode(z)))
    assert len(codec.stages()) == 2 and coder().stages()[0].autoencoder is not None and len(coder().stages()) == 1
    curved = Measurement(ops.Clip(), codec.decode(z), 0.03).to_model(codec)
    assert isinstance(curved.operator.outer, Decoded) and curved.sigma == 0.03
    torch.testing.assert_close(curved.operator(other), ops.Clip()(codec.decode(other)))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6)])
def test_any_size(size):
    """Sizes that the strides do not divide: their code is that of the padded picture, and decodes to their own size."""
    codec, x = coder(outer=Affine.unit()), Noise(3).uniform(torch.zeros(2, 1, *size).double())
    m = Measurement(ops.Identity(), x, 0.1).to_model(codec)
    height, width = (math.ceil(n / 2) for n in size)
    assert m.event == (3, height, width)
    z = codec.encode(x)
    assert z.shape[1:] == m.event
    want = codec.decode(z)[..., : size[0], : size[1]]
    torch.testing.assert_close(0.5 * m.operator(z) + 0.5, want)
    torch.testing.assert_close(codec.sized((1, *size)).decode(z), want)
    padded = torch.nn.functional.pad(x, (0, 2 * width - size[1], 0, 2 * height - size[0]), mode="reflect")
    torch.testing.assert_close(z, codec.encode(padded))


def test_a_sparing_codec_says_the_same():
    """One row at a time, computed again for a gradient: the same numbers, the same gradient, called row by row."""
    seen = []
    codec, z = coder(outer=Affine.unit()), Noise(4).normal(torch.zeros(3, 3, 4, 4).double())
    sparing = codec.sparing()
    codec.autoencoder.up.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[0]))
    torch.testing.assert_close(sparing.decode(z), codec.decode(z))
    torch.testing.assert_close(sparing.encode(codec.decode(z)), codec.encode(codec.decode(z)))
    assert seen == [1, 1, 1, 3, 3, 3]
    seen.clear()
    grads = []
    for which in (sparing, codec):
        at = z.clone().requires_grad_()
        grads.append(torch.autograd.grad(which.decode(at).square().sum(), at)[0])
    torch.testing.assert_close(*grads)
    assert seen == [1] * 6 + [3]
    assert Affine(2.0).sparing() == Affine(2.0) == Affine(2.0).sized((1, 2, 3)) and Affine(2.0).stages() == (
        Affine(2.0),
    )
