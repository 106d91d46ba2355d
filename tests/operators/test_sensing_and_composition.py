"""Compressed sensing against scipy's matrices and loops; composition and its trap."""

import numpy as np
import pytest
import scipy.linalg
import torch

from sfumato import operators as ops
from sfumato.noise import Noise


def normal(*shape, seed=0):
    return Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


@pytest.mark.parametrize("size", [(4, 8), (16,), (2, 2, 2), (1,)])
def test_hadamard_rows(size):
    n = int(np.prod(size))
    order = Noise(1).permutation(n)
    A = ops.Hadamard(order, (n + 1) // 2, size)
    x = normal(2, 3, *size)
    W = scipy.linalg.hadamard(n) / np.sqrt(n)
    expected = x.flatten(2).numpy() @ W.T[:, order.numpy()[: (n + 1) // 2]]
    np.testing.assert_allclose(A(x).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(A.pinv(A(x)), A.adjoint(A(x)), rtol=0, atol=1e-12)


def test_hadamard_random_measures_a_quarter():
    A = ops.Hadamard.random((8, 8), Noise(2))
    assert A.m == 16 and torch.equal(A.order, Noise(2).permutation(64)) and set(A.s.tolist()) == {0.0, 1.0}


def test_hadamard_errors():
    for size in ((6, 8), (0,)):
        with pytest.raises(ValueError, match="power of two"):
            ops.Hadamard.random(size, Noise(0))
    for order, m in (([0, 1, 2, 3], 0), ([0, 1, 2, 3], 5), ([0, 1, 2], 1), ([0, 1, 2, 2], 1), ([1, 2, 3, 4], 1)):
        with pytest.raises(ValueError, match=f"got m = {m}"):
            ops.Hadamard(torch.tensor(order), m, (4,))
    assert ops.Hadamard(torch.arange(4), 4, (4,)).m == 4
    with pytest.raises(ValueError, match="make another"):
        ops.Hadamard.random((4, 8), Noise(0))(torch.zeros(1, 1, 8, 4))


def test_block_sensing_by_loops():
    A = ops.BlockSensing.random(Noise(0), block=3, ratio=0.4)
    x = normal(2, 2, 6, 9)
    y = A(x)
    assert A.m == 4 and y.shape == (2, 2, 2, 3, 4)
    for i in range(2):
        for j in range(3):
            block = x[..., 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].reshape(2, 2, 9)
            torch.testing.assert_close(y[:, :, i, j], block @ A.rows[:4].T, rtol=0, atol=1e-13)
    torch.testing.assert_close(A.pinv(y), A.adjoint(y), rtol=0, atol=1e-13)


def test_block_sensing_defaults():
    A = ops.BlockSensing.random(Noise(0))
    assert A.rows.shape == (1024, 1024) and A.m == 256
    torch.testing.assert_close(A.rows @ A.rows.T, torch.eye(1024, dtype=torch.float64), rtol=0, atol=1e-12)


def test_random_rotations_are_uniform():
    # Over all rotations E[Q_ii] = 0; the Q of a QR decomposition has a preferred sign, which is undone
    corner = torch.stack([ops.BlockSensing.random(Noise(s), block=2).rows.diagonal() for s in range(300)])
    assert float(corner.mean(0).abs().max()) < 4 * 0.5 / 300**0.5


def test_block_sensing_errors():
    for rows, m in ((torch.eye(3), 1), (torch.eye(4)[:3], 1), (torch.eye(4), 0), (torch.eye(4), 5)):
        with pytest.raises(ValueError, match=f"and m = {m}"):
            ops.BlockSensing(rows, m)
    with pytest.raises(ValueError, match="not orthonormal"):
        ops.BlockSensing(torch.eye(4) * 1.01, 1)
    for shape in ((1, 1, 4, 3), (1, 1, 3, 4), (4, 4)):
        with pytest.raises(ValueError, match="multiples of 2"):
            ops.BlockSensing(torch.eye(4), 4)(torch.zeros(shape))
    assert ops.BlockSensing(torch.eye(4), 4)(torch.zeros(1, 4, 4)).shape == (1, 2, 2, 4)


# Composition

PARTLY = torch.tensor([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])


def test_compose_is_linear_when_both_are():
    pool, curve = ops.Downsample(2), ops.Function(torch.tanh, (1, 2, 4))
    assert isinstance(ops.Compose(pool, ops.Mask(PARTLY)), ops.Linear)
    for A in (ops.Compose(curve, ops.Mask(PARTLY)), ops.Compose(pool, curve)):
        assert isinstance(A, ops.Compose) and not isinstance(A, ops.Linear)
    x = normal(1, 1, 2, 4)
    torch.testing.assert_close(ops.Compose(pool, curve)(x), pool(x.tanh()))
    assert ops.Compose(pool, curve).event(torch.zeros(3, 1, 1, 2)) == (1, 2, 4)


def test_the_product_of_pseudo_inverses_is_wrong():
    """A partly masked block: its mean of three ones is 3 / 4, and copying and masking it gives 9 / 16 back."""
    pool, mask = ops.Downsample(2), ops.Mask(PARTLY)
    A = ops.Compose(pool, mask)
    y = A(torch.ones(1, 1, 2, 4, dtype=torch.float64))
    assert y.flatten().tolist() == pytest.approx([0.75, 1.0])
    product = mask.pinv(pool.pinv(y))
    assert A(product).flatten().tolist() == pytest.approx([0.5625, 1.0])
    torch.testing.assert_close(A(A.pinv(y)), y, rtol=0, atol=1e-12)
    torch.testing.assert_close(A.pinv(y), PARTLY.double().expand(1, 1, 2, 4), rtol=0, atol=1e-12)


def test_old_photograph_has_a_true_pseudo_inverse():
    # DDNM's A = A_sr A_gray A_mask
    inner = ops.Compose(ops.Gray(), ops.Mask.strokes((8, 8), Noise(0), width=0.2, missing=(0.1, 0.4)))
    A = ops.Compose(ops.Downsample(2), inner)
    y = A(normal(2, 3, 8, 8))
    assert A.event(y) == (3, 8, 8)
    torch.testing.assert_close(A(A.pinv(y)), y, rtol=0, atol=1e-10)


def test_noise_stays_zero_behind_a_last_mask():
    A = ops.Compose(ops.Mask(torch.tensor([1.0, 0.0])), ops.Downsample(2, axes=1))
    m = ops.Measurement.simulate(A, normal(2, 1, 4), sigma=1.0, noise=Noise(0))
    assert bool((m.y[..., 1] == 0).all()) and bool((m.residual(normal(2, 1, 4))[..., 0] != 0).all())
    B = ops.Compose(ops.Downsample(2, axes=1), ops.Mask(torch.tensor([1.0, 1.0, 0.0, 0.0])))
    assert bool((ops.Measurement.simulate(B, normal(2, 1, 4), sigma=1.0, noise=Noise(0)).y[..., 1] != 0).all())


def test_the_parameters_of_a_composition_are_those_of_what_comes_last():
    """So a blind solver works through a codec: y = f decode(z) + M."""
    double = ops.Function(lambda z: 2 * z, (2,))
    A = ops.Compose(ops.Veil(0.5, torch.tensor([1.0, 2.0])), double)
    factor, veil = A.parameters
    assert factor == 0.5 and veil.tolist() == [1.0, 2.0]
    moved = A.at((3.0, torch.zeros(2)))
    assert moved(torch.ones(1, 2)).tolist() == [[6.0, 6.0]] and A(torch.ones(1, 2)).tolist() == [[2.0, 3.0]]
    kernel = torch.ones(2, 2)
    blur = ops.Compose(ops.Blur(kernel, (4, 4)), ops.Mask(torch.eye(4)))
    assert blur.parameters is kernel and isinstance(blur.at(2 * kernel), ops.Linear)
    x = normal(1, 1, 4, 4)
    torch.testing.assert_close(blur.at(2 * kernel)(x), 2 * blur(x), rtol=0, atol=1e-12)
    with pytest.raises(TypeError, match="Downsample has no parameters"):
        _ = ops.Compose(ops.Downsample(2), ops.Blur(kernel, (4, 4))).parameters
