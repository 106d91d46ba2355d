"""Blurs against scipy's convolutions and dense matrices, and the traps of the published ones."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from sfumato import operators as ops
from sfumato.noise import Noise
from sfumato.operators import kernels


def normal(*shape, seed=0):
    return Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


def convolved(x, kernel, mode):
    """scipy's convolution of every channel."""
    rows = [ndimage.convolve(c, kernel.numpy(), mode=mode, cval=0.0) for c in x.flatten(0, 1).numpy()]
    return torch.from_numpy(np.stack(rows)).reshape(x.shape)


# Circular


@pytest.mark.parametrize("taps", [(3, 5), (7, 1), (9, 11)])
def test_blur_is_a_circular_convolution(taps):
    x, kernel = normal(2, 3, 8, 9), normal(*taps, seed=1)
    torch.testing.assert_close(ops.Blur(kernel, (8, 9), 0.0)(x), convolved(x, kernel, "wrap"), rtol=0, atol=1e-12)


def test_blur_in_one_dimension():
    x, kernel = normal(2, 3, 9), normal(5, seed=1)
    torch.testing.assert_close(ops.Blur(kernel, (9,), 0.0)(x), convolved(x, kernel, "wrap"), rtol=0, atol=1e-12)


def test_a_kernel_larger_than_the_data_wraps_around():
    x, kernel = normal(1, 1, 4), normal(11, seed=1)
    expected = [sum(kernel[j] * x[0, 0, (i - j + 5) % 4] for j in range(11)) for i in range(4)]
    torch.testing.assert_close(ops.Blur(kernel, (4,), 0.0)(x)[0, 0], torch.stack(expected), rtol=0, atol=1e-12)


def test_the_centre_of_an_even_kernel():
    x = normal(1, 1, 6)
    shift = torch.tensor([0.0, 1.0, 0.0, 0.0])  # one before the centre, tap 2: y_i = x_(i + 1)
    torch.testing.assert_close(ops.Blur(shift, (6,))(x), x.roll(-1, -1), rtol=0, atol=1e-13)
    torch.testing.assert_close(ops.Convolution(shift, "zero")(x)[..., :-1], x[..., 1:], rtol=0, atol=1e-13)


def test_singular_values_are_the_gains_of_waves():
    A = ops.Blur.gaussian((16,), 1.5, width=13)
    n = torch.arange(16, dtype=torch.float64)
    for f in (0, 1, 3):
        wave = torch.cos(2 * math.pi * f * n / 16)[None, None]
        torch.testing.assert_close(A(wave), A.s[f] * wave, rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", [lambda k: ops.Blur(k, (6, 6)), lambda k: ops.DecimatedBlur(k, (6, 6), 2)])
def test_one_kernel_for_each_sample(make):
    x, pair = normal(2, 3, 6, 6), normal(2, 3, 3, seed=1)
    A = make(pair[:, None])
    y = A(x)
    for i in range(2):
        one, row = make(pair[i]), slice(i, i + 1)
        torch.testing.assert_close(y[row], one(x[row]), rtol=0, atol=1e-13)
        torch.testing.assert_close(A.pinv(y)[row], one.pinv(y[row]), rtol=0, atol=1e-11)
        torch.testing.assert_close(A.solve(x, 0.1)[row], one.solve(x[row], 0.1), rtol=0, atol=1e-11)


def test_threshold_cuts_what_is_weaker_in_the_operator_itself():
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)  # gains 0.5 + 0.5 cos: 1, 0.5, 0 on 4 samples
    x = normal(1, 1, 4)
    half = ops.Blur(kernel, (4,), 0.5)
    assert half.s.tolist() == pytest.approx([1.0, 0.5, 0.0])  # of 0, 1 (and -1), 2 cycles
    only_mean = ops.Blur(kernel, (4,), 0.6)
    torch.testing.assert_close(only_mean(x), x.mean().expand(1, 1, 4), rtol=0, atol=1e-13)
    torch.testing.assert_close(only_mean.pinv(x), x.mean().expand(1, 1, 4), rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", [ops.Blur, lambda k, size: ops.DecimatedBlur(k, size, 2), None])
def test_at_is_another_kernel_and_differentiable(make):
    make = make or (lambda k, size: ops.Convolution(k))
    x, kernel = normal(1, 1, 4, 4), normal(3, 3, seed=1)
    A = make(normal(3, 3, seed=2), (4, 4)).at(kernel)
    torch.testing.assert_close(A(x), make(kernel, (4, 4))(x))
    assert type(A) is type(make(kernel, (4, 4)))
    assert A.parameters is kernel
    assert torch.autograd.gradcheck(lambda k: make(normal(3, 3, seed=2), (4, 4)).at(k)(x), kernel.requires_grad_())


def test_gaussian_blur_is_scipys_filter():
    x = normal(1, 1, 40, 70)
    expected = ndimage.gaussian_filter(x.numpy(), 3.0, axes=(2, 3), mode="wrap")
    got = ops.Blur.gaussian((40, 70), threshold=0.0)(x)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)
    kernel = ops.Blur.gaussian((40, 70)).kernel
    assert kernel.shape == (61, 61)
    # cut at 4 std = 12 taps from the centre, and no wider than asked for
    assert float(kernel[30, 42]) > 0 and float(kernel[30, 43]) == 0 and float(kernel[17, 30]) == 0
    narrow = ops.Blur.gaussian((40,), 3.0, width=5).kernel
    assert narrow.shape == (5,) and float(narrow[0]) > 0 and float(narrow.sum()) == pytest.approx(1.0)


def test_uniform_blur_is_a_box_filter():
    x = normal(1, 2, 12, 15)
    expected = ndimage.uniform_filter(x.numpy(), 9, axes=(2, 3), mode="wrap")
    np.testing.assert_allclose(ops.Blur.uniform((12, 15), threshold=0.0)(x).numpy(), expected, atol=1e-12)
    line = normal(1, 1, 12)
    torch.testing.assert_close(ops.Blur.uniform((12,), 3)(line), (line + line.roll(1, -1) + line.roll(-1, -1)) / 3)


@pytest.mark.parametrize("A", [ops.Blur(torch.ones(1, 1), (4, 6)), ops.DecimatedBlur(torch.ones(1, 1), (4, 6), 2)])
def test_blur_names_its_size(A):
    with pytest.raises(ValueError, match=r"made for size \(4, 6\), got data \(1, 1, 6, 4\)"):
        A(torch.zeros(1, 1, 6, 4))


def test_blur_needs_a_kernel_axis_for_each_axis():
    with pytest.raises(ValueError, match=r"each of \(4, 4\) is needed, got \(3,\)"):
        ops.Blur(torch.ones(3), (4, 4))


# Decimated


@pytest.mark.parametrize("r", [1, 2, 4])
def test_decimated_blur(r):
    x, kernel = normal(2, 3, 8, 12), normal(3, 5, seed=1)
    A = ops.DecimatedBlur(kernel, (8, 12), r)
    torch.testing.assert_close(A(x), convolved(x, kernel, "wrap")[..., ::r, ::r], rtol=0, atol=1e-12)


def test_decimated_blur_leaves_out_what_it_hardly_sees():
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    # r = 1: g = |K|^2 with K = 1, 0.5, 0, 0.5
    y = normal(1, 1, 4)
    torch.testing.assert_close(ops.DecimatedBlur(kernel, (4,), 1, 0.6).pinv(y), y.mean().expand(1, 1, 4))
    assert (ops.DecimatedBlur(kernel, (4,), 1, 0.5).pinv(y) - y.mean()).abs().max() > 0.1


@pytest.mark.parametrize("r, size", [(0, (4,)), (3, (4,)), (2, (4, 5))])
def test_decimated_blur_errors(r, size):
    with pytest.raises(ValueError, match=f"got {r}"):
        ops.DecimatedBlur(torch.ones([1] * len(size)), size, r)


# Reflected and zero borders


@pytest.mark.parametrize("padding, mode", [("reflect", "mirror"), ("zero", "constant")])
@pytest.mark.parametrize("taps", [(3, 5), (5, 1)])
def test_convolution(padding, mode, taps):
    x, kernel = normal(2, 3, 6, 7), normal(*taps, seed=1)
    got = ops.Convolution(kernel, padding)(x)
    torch.testing.assert_close(got, convolved(x, kernel, mode), rtol=0, atol=1e-12)
    line, taps_1d = normal(2, 3, 8), normal(5, seed=1)
    got = ops.Convolution(taps_1d, padding)(line)
    torch.testing.assert_close(got, convolved(line, taps_1d, mode), rtol=0, atol=1e-12)


def test_the_adjoint_of_reflection_is_not_the_flipped_kernel():
    y, kernel = normal(1, 1, 6, 6), normal(3, 3, seed=1)
    flipped = kernel.flip(0, 1)
    zero, reflect = ops.Convolution(kernel, "zero"), ops.Convolution(kernel)
    torch.testing.assert_close(zero.adjoint(y), ops.Convolution(flipped, "zero")(y), rtol=0, atol=1e-12)
    wrong = ops.Convolution(flipped)(y)
    gap = (reflect.adjoint(y) - wrong).abs()
    assert float(gap[..., 2:-2, 2:-2].max()) < 1e-12 and float(gap.max()) > 0.1


@pytest.mark.parametrize("taps", [(3, 5), (4, 2)])
def test_valid_convolution_sees_no_border(taps):
    x, kernel = normal(2, 2, 8, 9), normal(*taps, seed=1)
    A = ops.Convolution(kernel, "valid")
    flipped = kernel.flip(0, 1)[None, None]
    want = torch.nn.functional.conv2d(x.flatten(0, 1)[:, None], flipped).reshape(2, 2, 9 - taps[0], 10 - taps[1])
    torch.testing.assert_close(A(x), want, rtol=0, atol=1e-12)
    assert A.event(A(x)) == (2, 8, 9)


def test_what_a_camera_saw_is_restored_to_a_larger_scene():
    """Where circular borders would be wrong by as much as the picture itself."""
    rows, columns = torch.linspace(0, 1, 24).double()[:, None], torch.linspace(0, 3, 24).double()
    scene = (rows + torch.sin(columns))[None, None]
    kernel = torch.ones(3, 3, dtype=torch.float64) / 9
    y = ops.Convolution(kernel, "valid")(scene)
    back = ops.Convolution(kernel, "valid").ridge(y, 1e-4)
    inside = (..., slice(3, -3), slice(3, -3))
    assert float((back - scene)[inside].abs().max()) < 0.1
    ring = ops.Blur(kernel, (22, 22)).ridge(y, 1e-4)
    assert float((ring - scene[..., 1:-1, 1:-1])[..., 2:-2, 2:-2].abs().max()) > 0.5


def test_the_convolutions_of_dps():
    """61 x 61 taps on reflected borders: std 3 cut at 4 std, as scipy's filter makes it of a point; a camera shake."""
    A = ops.Convolution.gaussian()
    point = np.zeros((61, 61))
    point[30, 30] = 1.0
    want = torch.from_numpy(ndimage.gaussian_filter(point, 3.0))
    torch.testing.assert_close(A.kernel, want, rtol=0, atol=1e-12)
    assert A.padding == "reflect" and ops.Convolution.gaussian(1.0, width=7, axes=1, padding="valid").padding == "valid"
    assert ops.Convolution.gaussian(1.0, width=7, axes=1).kernel.shape == (7,)
    assert torch.equal(ops.Convolution.motion(Noise(3)).kernel, kernels.motion(Noise(3), 61, 0.5))
    short = ops.Convolution.motion(Noise(3), width=9, intensity=0.2, padding="zero")
    assert torch.equal(short.kernel, kernels.motion(Noise(3), 9, 0.2)) and short.padding == "zero"


def test_a_band_keeps_the_waves_inside_it():
    """32 samples: the waves of k cycles, k / 32 per sample, pass from 0.125 to 0.25 (4 to 8 cycles) and no others."""
    A, n = ops.Blur.band((32,), 0.125, 0.25), torch.arange(32, dtype=torch.float64)
    for k in range(17):
        wave = torch.cos(2 * math.pi * k * n / 32 + 0.3)[None, None]
        torch.testing.assert_close(A(wave), wave if 4 <= k <= 8 else 0.0 * wave, rtol=0, atol=1e-12)
    assert torch.equal(A.s > 0.5, A.s > 0) and ops.Blur.band((32,))(torch.ones(1, 1, 32)).allclose(torch.ones(1, 1, 32))
    pictures = ops.Blur.band((8, 6), 0.2, 0.5)
    assert float(pictures.s.sum()) == pytest.approx(5 * 2)  # 2, 3, 4, 5, 6 of 8 and 2, 3 of 6, whose 4 is -2


@pytest.mark.parametrize("band", [(-0.1, 0.2), (0.2, 0.2), (0.3, 0.2), (0.2, 0.6)])
def test_band_errors(band):
    with pytest.raises(ValueError, match=f"within 0 and 0.5, got {band[0]} to {band[1]}"):
        ops.Blur.band((8,), *band)


def test_convolution_errors():
    with pytest.raises(ValueError, match=r"data of \(2, 8\) are smaller than the kernel \(3, 3\)"):
        ops.Convolution(torch.ones(3, 3), "valid")(torch.zeros(1, 1, 2, 8))
    assert ops.Convolution(torch.ones(3, 3), "valid")(torch.ones(1, 1, 3, 3)).tolist() == [[[[pytest.approx(9.0)]]]]
    with pytest.raises(ValueError, match=r'padding is "reflect", "zero" or "valid", got .circular.: Blur is circular'):
        ops.Convolution(torch.ones(3), "circular")
    for shape in ((), (2, 2, 2), (1, 2, 2, 2), (1,) * 5):
        with pytest.raises(ValueError, match="one axis"):
            ops.Convolution(torch.ones(shape))
    with pytest.raises(ValueError, match=r"of 4, got \(1, 1, 4\)"):
        ops.Convolution(torch.ones(3, 3))(torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="cannot be reflected"):
        ops.Convolution(torch.ones(1, 9))(torch.zeros(1, 1, 9, 4))
    assert ops.Convolution(torch.ones(1, 9))(torch.zeros(1, 1, 1, 5)).shape == (1, 1, 1, 5)
    assert ops.Convolution(torch.ones(9), "zero")(torch.zeros(1, 1, 4)).shape == (1, 1, 4)


# Zero-padded and separable


@pytest.mark.parametrize("width", [4, 5, 9])
def test_separable_blur_is_a_zero_padded_convolution(width):
    x, rows, columns = normal(2, 3, 8, 10), normal(5, seed=1), normal(width, seed=2)
    got = ops.Separable.blur((8, 10), rows, columns, threshold=0.0)(x)
    torch.testing.assert_close(got, ops.Convolution(torch.outer(rows, columns), "zero")(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "A, taps",
    [
        (ops.Separable.uniform((20, 24), threshold=0.0), (np.ones(9) / 9, np.ones(9) / 9)),
        (ops.Separable.gaussian((20, 24), threshold=0.0), (np.exp(-(np.arange(-2, 3) ** 2) / 200),) * 2),
        (
            ops.Separable.anisotropic((20, 24), threshold=0.0),
            (np.exp(-(np.arange(-4, 5) ** 2) / 2), np.exp(-(np.arange(-4, 5) ** 2) / 800)),
        ),
    ],
)
def test_the_blurs_of_ddrm(A, taps):
    x = normal(1, 3, 20, 24)
    expected = x.numpy()
    for axis, kernel in zip((2, 3), taps, strict=True):
        expected = ndimage.convolve1d(expected, kernel / kernel.sum(), axis=axis, mode="constant")
    np.testing.assert_allclose(A(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("make", [ops.Separable.uniform, ops.Separable.gaussian, ops.Separable.anisotropic])
def test_values_of_an_axis_below_the_threshold_are_zero(make):
    whole, cut = make((24, 24), threshold=0.0), make((24, 24))
    axis_r, axis_c = (torch.linalg.svdvals(a) for a in cut.matrices)
    kept = torch.outer(axis_r * (axis_r >= 0.03), axis_c * (axis_c >= 0.03))
    torch.testing.assert_close(cut.s.flatten().sort().values, kept.flatten().sort().values, rtol=0, atol=1e-12)
    assert int((cut.s == 0).sum()) > int((whole.s == 0).sum())
    x = normal(1, 1, 24, 24)
    assert 0 < float((whole(x) - cut(x)).norm()) < 0.03 * float(x.norm())


@pytest.mark.parametrize("make, gain", [(ops.Separable.gaussian, 0.64), (ops.Separable.uniform, (8 / 9) ** 2)])
def test_the_published_blur_loses_a_tap(make, gain):
    """Gains 0.64 and 0.79 in two dimensions; ours are 1. The mean of many pixels far from the borders shows it."""
    size, flat = (40, 40), torch.ones(1, 3, 40, 40, dtype=torch.float64)
    matrices = make(size, published=True).matrices
    inside = torch.outer(matrices[0].sum(1), matrices[1].sum(1))[10:-10, 10:-10]
    # the nearly uniform gaussian has outer taps a little below 1 / 5
    torch.testing.assert_close(inside, torch.full_like(inside, gain), rtol=0, atol=0.01)
    right = make(size, threshold=0.0)(flat)[..., 10:-10, 10:-10]
    torch.testing.assert_close(right, torch.ones_like(right), rtol=0, atol=1e-12)
    # off its centre: an impulse spreads over offsets -floor(k / 2) .. floor(k / 2) - 1
    width = int((matrices[0][20] > 0).sum())
    assert (matrices[0][20] > 0).nonzero().flatten().tolist() == list(range(20 - width // 2, 20 + width // 2))


def test_the_published_blur_is_no_blur():
    """Its singular values, sorted for pixels, are laid over coefficients that hold a pixel's channels side by side."""
    n = 16
    published = ops.Separable.uniform((n, n), published=True)
    gray = normal(1, 1, n, n).expand(1, 3, n, n)
    y = published(gray)
    assert float((y - y.mean(1, keepdim=True)).norm() / y.norm()) > 0.05  # grey turns coloured
    right = ops.Separable.uniform((n, n))(gray)
    torch.testing.assert_close(right, right[:, :1].expand_as(right), rtol=0, atol=1e-13)
    # by hand: coefficients flattened pixel by pixel, in the order of the sorted values, which are repeated three times
    U, s, Vt = (part.numpy() for part in torch.linalg.svd(published.matrices[0]))
    s = np.where(s < 0.03, 0.0, s)
    values = np.outer(s, s).reshape(-1)
    order = np.argsort(-values, kind="stable")
    x = normal(1, 3, n, n)
    coefficients = np.einsum("ia,cab,jb->cij", Vt, x[0].numpy(), Vt).reshape(3, -1)[:, order]
    vector = coefficients.T.reshape(-1)
    for wrong, values_laid in ((True, np.tile(values[order], 3)), (False, np.repeat(values[order], 3))):
        scaled = (vector * values_laid).reshape(-1, 3).T
        unsorted = np.empty_like(scaled)
        unsorted[:, order] = scaled
        expected = np.einsum("ai,cij,bj->cab", U, unsorted.reshape(3, n, n), U)
        got = published if wrong else ops.Separable(published.matrices)
        np.testing.assert_allclose(got(x)[0].numpy(), expected, atol=1e-10)


def test_the_error_of_the_published_order():
    """Relative error against the blur that was meant: 0.23 at 16 x 16 in an independent run, numbers in [0, 1]."""
    published = ops.Separable.uniform((16, 16), published=True)
    x = Noise(0).uniform(torch.empty(16, 3, 16, 16, dtype=torch.float64))
    meant = ops.Separable(published.matrices)(x)
    assert float((published(x) - meant).norm() / meant.norm()) == pytest.approx(0.23, abs=0.015)


def test_separable_errors():
    with pytest.raises(ValueError, match="one matrix for each axis"):
        ops.Separable(())
    with pytest.raises(ValueError, match=r"got shapes \[\(3,\)\]"):
        ops.Separable((torch.ones(3),))
    with pytest.raises(ValueError, match="each of 2 axes is needed, got 1"):
        ops.Separable.blur((4, 4), torch.ones(3))
    with pytest.raises(ValueError, match="published order"):
        ops.Separable.uniform((8,), published=True)
    with pytest.raises(ValueError, match=r"data of size \(8, 6\), got \(1, 3, 6, 8\)"):
        ops.Separable.uniform((8, 6))(torch.zeros(1, 3, 6, 8))


# Kernels


def moments(kernel):
    """Centre (row, column) and covariance of a kernel's light."""
    n = len(kernel)
    at = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float64)] * 2, indexing="ij")).flatten(1)
    w = kernel.flatten()
    centre = at @ w
    return centre, (w * (at - centre[:, None])) @ (at - centre[:, None]).T


def test_normal_kernel_has_its_width():
    taps = kernels.normal(81, 5.0)
    x = torch.arange(81, dtype=torch.float64) - 40
    assert float(taps.sum()) == pytest.approx(1.0) and float(taps @ x**2) == pytest.approx(25.0, rel=1e-6)
    torch.testing.assert_close(kernels.normal(5, 1.0, radius=1)[[0, 4]], torch.zeros(2, dtype=torch.float64))


def test_motion_kernel_is_light_that_sums_to_one():
    kernel = kernels.motion(Noise(3))
    assert kernel.shape == (61, 61) and float(kernel.sum()) == pytest.approx(1.0) and float(kernel.min()) >= 0
    assert torch.equal(kernel, kernels.motion(Noise(3))) and not torch.equal(kernel, kernels.motion(Noise(4)))
    A = ops.Blur.motion((64, 64), Noise(3))
    assert torch.equal(A.kernel, kernel) and A.size == (64, 64)


def test_straight_motion():
    """Intensity 0: a straight line of uniform direction, centred, of length 0.75 diagonal times U(0, 1)."""
    lengths, angles = [], []
    for seed in range(200):
        kernel = kernels.motion(Noise(seed), 41, 0.0)
        centre, cov = moments(kernel)
        if float(torch.nn.functional.pad(kernel[1:-1, 1:-1], [1] * 4).sum()) > 1 - 1e-12:  # all light fell inside
            torch.testing.assert_close(centre, torch.full((2,), 20.0, dtype=torch.float64), rtol=0, atol=1e-9)
        (small, large), axes = torch.linalg.eigh(cov)
        assert float(small) < 0.5  # no wider than the pixels
        lengths.append(math.sqrt(12 * max(0.0, float(large) - float(small))))
        angles.append(math.atan2(float(axes[0, 1]), float(axes[1, 1])) % math.pi)
    # steps of 1 / 31 diagonal stop short by less than one step; standard errors 0.9 and 0.064
    expected = 0.75 * 41 * math.sqrt(2) / 2
    assert np.mean(lengths) == pytest.approx(expected - 0.9, abs=3.0)
    assert np.mean(angles) == pytest.approx(math.pi / 2, abs=0.25) and np.std(angles) == pytest.approx(0.907, abs=0.12)


def test_stronger_motion_is_more_crooked():
    def thickness(intensity):
        spread = [torch.linalg.eigvalsh(moments(kernels.motion(Noise(s), 61, intensity))[1]) for s in range(40)]
        return float(torch.stack([e[0] / e[1] for e in spread]).median())

    assert thickness(0.1) < 0.5 * thickness(0.5) < 0.5 * thickness(0.9)


@pytest.mark.parametrize("width, intensity", [(0, 0.5), (9, -0.1), (9, 1.0)])
def test_motion_errors(width, intensity):
    with pytest.raises(ValueError, match=f"got {width} and {intensity}"):
        kernels.motion(Noise(0), width, intensity)


def test_each_row_may_have_its_own_kernel():
    x, taps = Noise(0).normal(torch.zeros(2, 3, 7, 8).double()), Noise(1).normal(torch.zeros(2, 1, 3, 4).double())
    for padding in ("valid", "zero", "reflect"):
        both = ops.Convolution(taps, padding)
        assert both.taps == (3, 4)
        for i in (0, 1):
            one = ops.Convolution(taps[i, 0], padding)
            torch.testing.assert_close(both(x)[i : i + 1], one(x[i : i + 1]), atol=1e-12, rtol=0)
            own = both.of_rows([i], both(x))
            torch.testing.assert_close(own(x[i : i + 1]), one(x[i : i + 1]), atol=1e-12, rtol=0)
        assert both.event(both(x)) == one.event(one(x)) == (3, 7, 8)
        place = torch.zeros_like(x)
        place[both.inside(both(x))] = 1.0
        assert float(place.sum()) == both(x).numel()
    point = torch.zeros(2, 1, 3, 4).double()
    point[:, :, 1, 2] = 1.0  # its middle: floor(width / 2)
    seen = ops.Convolution(point, "valid")
    assert torch.equal(x[seen.inside(seen(x))], x[:, :, 1:6, 1:6])
    torch.testing.assert_close(seen(x), x[:, :, 1:6, 1:6], atol=1e-12, rtol=0)
    signal, rows = x[:, :1, 0], taps[:, :, 0]
    assert ops.Convolution(rows).taps == (4,)
    want = torch.cat([ops.Convolution(rows[i, 0], "zero")(signal[i : i + 1]) for i in (0, 1)])
    torch.testing.assert_close(ops.Convolution(rows, "zero")(signal), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("taps, size", [((3, 4), (6, 9)), ((5,), (7,)), ((4,), (5,)), ((7,), (5,))])
def test_gradient_in_the_taps(taps, size):
    """By automatic differentiation of |y - A_k x|^2 / 2, row by row; wide kernels wrap around more than once."""
    k, x, y = (
        Noise(i).normal(torch.zeros(2, c, *s).double()) for i, c, s in ((0, 1, taps), (1, 3, size), (2, 3, size))
    )
    k.requires_grad_()
    half = 0.5 * (y - ops.Blur(k, size)(x)).square().sum()
    (want,) = torch.autograd.grad(half, k)
    got = ops.Blur(torch.zeros_like(k), size).taps_gradient(x, y)(k.detach())
    torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


def test_gradient_of_the_expected_square():
    """x = mean + v or mean - v, as likely: the mean of the two gradients is that of the mean and v v^T."""
    size, taps = (9,), Noise(0).normal(torch.zeros(1, 1, 3).double())
    mean, y, v = (Noise(i).normal(torch.zeros(1, 1, 9).double()) for i in (1, 2, 3))
    A = ops.Blur(torch.zeros(1, 1, 3).double(), size)
    both = [A.taps_gradient(mean + sign * v, y)(taps) for sign in (1, -1)]
    got = A.taps_gradient(mean, y, (v, v))(taps)
    torch.testing.assert_close(got, (both[0] + both[1]) / 2, atol=1e-10, rtol=0)
    # a pair of negative curvature adds nothing
    torch.testing.assert_close(A.taps_gradient(mean, y, (v, -v))(taps), A.taps_gradient(mean, y)(taps))


def middle_moments(k):
    """Mean (row, column) from the middle, and second moments (row row, column column, row column)."""
    at = torch.arange(len(k)).double() - len(k) // 2
    rows, columns = k.sum(1), k.sum(0)
    second = ((rows * at**2).sum(), (columns * at**2).sum(), (k * at[:, None] * at[None]).sum())
    return float((rows * at).sum()), float((columns * at).sum()), *(float(v) for v in second)


def test_moments_of_discs_lines_and_ovals():
    """A disc has radius^2 / 4 on each axis, a line length^2 / 12 along it, an oval its variances."""
    for k, want, off in (
        (kernels.disc(21, 7.0), (49 / 4, 49 / 4, 0.0), 0.2),
        (kernels.line(31, 20.0), (0.0, 400 / 12, 0.0), 0.3),
        (kernels.line(31, 20.0, math.pi / 2), (400 / 12, 0.0, 0.0), 0.3),
        (kernels.line(31, 20.0, math.pi / 4), (400 / 24, 400 / 24, -400 / 24), 0.3),
        (kernels.oval(41, 4.0, 2.0), (4.0, 16.0, 0.0), 1e-3),
        (kernels.oval(41, 4.0, 2.0, math.pi / 2), (16.0, 4.0, 0.0), 1e-3),
        (kernels.oval(41, 4.0, 2.0, math.pi / 6), (16 / 4 + 4 * 3 / 4, 16 * 3 / 4 + 4 / 4, -12 * 3**0.5 / 4), 1e-3),
    ):
        assert float(k.sum()) == pytest.approx(1.0, abs=1e-12) and float(k.min()) >= 0.0
        row, column, *second = middle_moments(k)
        assert (row, column) == pytest.approx((0.0, 0.0), abs=1e-10)
        assert second == pytest.approx(want, abs=off)
    disc = kernels.disc(9, 3.0)
    assert float(disc[4, 4]) == pytest.approx(1 / (math.pi * 9), rel=0.01) and float(disc[4, 8]) == 0.0
    assert float(disc[4, 7] / disc[4, 4]) == pytest.approx(0.5, abs=0.06)  # the rim halves the pixel at its radius
    torch.testing.assert_close(kernels.line(5, 1e-9)[2, 2], torch.tensor(1.0).double())


def test_families_of_kernels():
    sizes = {kind: len(kernels.family(9, kind)) for kind in ("defocus", "motion", "gaussian")}
    assert sizes == {"defocus": 15, "motion": 144, "gaussian": 6}
    every = kernels.family(9)
    assert every.shape == (165, 9, 9)
    assert torch.equal(every[1], kernels.disc(9, 0.75)) and torch.equal(every[14], kernels.disc(9, 4.0))
    assert torch.equal(every[15 + 16 + 3], kernels.line(9, 2.0, 3 * math.pi / 16))
    assert torch.equal(every[-1], kernels.oval(9, 1.75, 1.75))
    with pytest.raises(ValueError, match="gaussian or all, got"):
        kernels.family(9, "shake")
    for make in (lambda v: kernels.disc(5, v), lambda v: kernels.line(5, v), lambda v: kernels.oval(5, v, 1.0)):
        with pytest.raises(ValueError, match=r"is positive, got 0\.0"):
            make(0.0)
    with pytest.raises(ValueError, match="oval: short is positive"):
        kernels.oval(5, 1.0, -1.0)
