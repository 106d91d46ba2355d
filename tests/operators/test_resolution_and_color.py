"""Downsample, bicubic reduction and Gray against computations that share nothing with them."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from sfumato import operators as ops
from sfumato.noise import Noise


def normal(*shape, seed=0):
    return Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


def test_downsample_is_average_pooling():
    x = normal(2, 3, 8, 12)
    torch.testing.assert_close(ops.Downsample(4)(x), functional.avg_pool2d(x, 4), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        ops.Downsample(3, axes=1)(x), functional.avg_pool1d(x.flatten(0, 1), 3).reshape(2, 3, 8, 4)
    )
    volume = normal(2, 1, 4, 2, 6)
    torch.testing.assert_close(ops.Downsample(2, axes=3)(volume), functional.avg_pool3d(volume, 2), rtol=0, atol=1e-13)
    torch.testing.assert_close(ops.Downsample(1)(x), x, rtol=0, atol=1e-13)


def test_downsample_copies_back():
    y = normal(1, 2, 2, 3)
    A = ops.Downsample(2)
    copies = y.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(A.pinv(y), copies, rtol=0, atol=1e-13)
    torch.testing.assert_close(A.adjoint(y), copies / 4, rtol=0, atol=1e-13)


@pytest.mark.parametrize("axes, power", [(1, 0.5), (2, 1.0), (3, 1.5)])
def test_noise_of_a_pooled_direction_is_r_sigma(axes, power):
    # k_j = sigma_y / s_j: r sigma_y for pictures, sqrt(r) sigma_y for signals
    A = ops.Downsample(4, axes=axes)
    seen = A.s[A.s > 0]
    assert seen.numel() == 1 and A.s.numel() == 4**axes
    assert float(0.1 / seen) == pytest.approx(0.1 * 4**power, rel=1e-12)


def test_the_basis_of_a_block_is_the_discrete_cosine_transform():
    from scipy.fft import dctn

    block = normal(1, 1, 4, 4)
    z = ops.Downsample(4).Vt(block)[0, 0, 0, 0].reshape(4, 4)
    np.testing.assert_allclose(z.numpy(), dctn(block[0, 0].numpy(), norm="ortho"), atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 3, 9, 8), (2, 8), (1, 2, 6)])
def test_downsample_errors(shape):
    with pytest.raises(ValueError, match=r"multiples of 4 .* got \(.*axes=1"):
        ops.Downsample(4)(torch.zeros(shape))


@pytest.mark.parametrize("factor, axes", [(0, 2), (2, 0)])
def test_downsample_settings(factor, axes):
    with pytest.raises(ValueError, match="at least 1"):
        ops.Downsample(factor, axes)


@pytest.mark.parametrize("r", [2, 4])
def test_bicubic_is_torchs_inside(r):
    x = normal(1, 2, 16 * r, 12 * r)
    A = ops.Downsample.bicubic(r, (16 * r, 12 * r))
    y = A(x)
    torchs = functional.interpolate(x, scale_factor=1 / r, mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(y[..., 2:-2, 2:-2], torchs[..., 2:-2, 2:-2], rtol=0, atol=1e-12)
    border = (y - torchs).abs()
    assert 1e-3 < float(border.max()) < 0.5  # mirrored here, renormalized there
    flat = torch.ones(1, 1, 16 * r, 12 * r, dtype=torch.float64)
    torch.testing.assert_close(A(flat), torch.ones(1, 1, 16, 12, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("r, n", [(2, 6), (3, 9), (4, 4), (2, 2)])
def test_bicubic_mirrors_its_borders(r, n):
    """By loops, on numpy's symmetric padding: also where the taps are longer than the data."""

    def cubic(x, a=-0.5):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    taps = np.array([cubic((i - 2 * r + 0.5) / r) for i in range(4 * r)])
    taps /= taps.sum()
    x = normal(1, 1, n)
    padded = np.pad(x[0, 0].numpy(), 4 * r, mode="symmetric")
    expected = []
    for i in range(n // r):
        first = 4 * r + i * r + (r - 4 * r + r % 2) // 2 if r % 2 == 0 else None
        if first is None:  # an odd factor: the middle of a block is a pixel, the taps sit between pixels, shifted left
            first = 4 * r + i * r + (r - 1) // 2 - 2 * r
        expected.append(float((padded[first : first + 4 * r] * taps).sum()))
    y = ops.Separable.bicubic(r, (n,), threshold=0.0)(x)
    np.testing.assert_allclose(y[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("factor, size", [(3, (8, 9)), (3, (9, 8)), (0, (8, 8))])
def test_bicubic_errors(factor, size):
    with pytest.raises(ValueError, match=f"got {factor}"):
        ops.Downsample.bicubic(factor, size)


def test_gray_is_the_mean_of_the_channels():
    x = normal(2, 3, 4, 5)
    A = ops.Gray()
    torch.testing.assert_close(A(x), x.mean(1, keepdim=True), rtol=0, atol=1e-14)
    assert float(A.s.max()) == pytest.approx(1 / 3**0.5) and int((A.s > 0).sum()) == 1
    y = normal(2, 1, 4, 5)
    torch.testing.assert_close(A.pinv(y), y.expand(2, 3, 4, 5), rtol=0, atol=1e-14)
    torch.testing.assert_close(A.adjoint(y), y.expand(2, 3, 4, 5) / 3, rtol=0, atol=1e-14)


@pytest.mark.parametrize("weights", [(0.299, 0.587, 0.114), (-1.0, 0.5), (0.0, 2.0), (0.5,), (-0.5,)])
def test_gray_with_other_weights(weights):
    A, w = ops.Gray(weights), torch.tensor(weights, dtype=torch.float64)
    x, y = normal(2, len(weights), 7), normal(2, 1, 7)
    torch.testing.assert_close(A(x), torch.einsum("c,bcl->bl", w, x)[:, None], rtol=0, atol=1e-13)
    torch.testing.assert_close(A.pinv(y), w[:, None] * y / w.dot(w), rtol=0, atol=1e-13)
    assert A._axis.isfinite().all()


def test_luma_of_white_is_white():
    A = ops.Gray.luma()
    white, green = torch.ones(1, 3, 2, 2), torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(A(white), torch.ones(1, 1, 2, 2))
    assert float(A(green)) == pytest.approx(0.587)


@pytest.mark.parametrize("weights", [(), (0.0, 0.0)])
def test_gray_needs_weights(weights):
    with pytest.raises(ValueError, match="one weight for each channel"):
        ops.Gray(weights)


def test_gray_names_the_number_of_channels():
    with pytest.raises(ValueError, match="3 weights, the data 4 channels"):
        ops.Gray()(torch.zeros(1, 4, 2, 2))
