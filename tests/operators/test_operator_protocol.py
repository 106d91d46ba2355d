"""Every operator keeps the promises of its rung of the ladder Operator > Linear > Spectral."""

import math

import pytest
import torch

from sfumato import operators as ops
from sfumato.noise import Noise
from sfumato.operators.base import cast
from sfumato.operators.sense import birdcage


def normal(*shape, seed=0):
    return Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


def positive(*shape, seed=0):
    taps = Noise(seed).uniform(torch.empty(shape, dtype=torch.float64)) + 0.1
    return taps / taps.sum()


def mild(*shape):
    """A kernel close to a delta, off its centre: well conditioned, with no symmetry."""
    kernel = 0.1 * normal(*shape, seed=3)
    kernel.view(-1)[kernel.numel() // 2] += 1.0
    return kernel


RAGGED = torch.tensor([[1, 0, 1, 1, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1, 0, 1]] * 4, dtype=torch.float64)

# operator, event, shape of one measurement
SPECTRAL = {
    "identity": (ops.Identity(), (2, 3), (2, 3)),
    "matrix wide": (ops.Matrix(normal(3, 6)), (6,), (3,)),
    "matrix tall": (ops.Matrix(normal(6, 3)), (3,), (6,)),
    "matrix deficient": (ops.Matrix(normal(5, 2) @ normal(2, 4, seed=1)), (4,), (5,)),
    "mask": (ops.Mask(RAGGED), (2, 8, 8), (2, 8, 8)),
    "mask gaps": (ops.Mask.gaps(12, Noise(0), width=3, count=2), (2, 12), (2, 12)),
    "downsample": (ops.Downsample(2), (3, 4, 6), (3, 2, 3)),
    "downsample 3": (ops.Downsample(3), (2, 6, 3), (2, 2, 1)),
    "downsample 1-d": (ops.Downsample(4, axes=1), (2, 8), (2, 2)),
    "downsample 3-d": (ops.Downsample(2, axes=3), (1, 4, 2, 6), (1, 2, 1, 3)),
    "downsample video": (ops.Downsample(2), (2, 1, 4, 2), (2, 1, 2, 1)),
    "bicubic": (ops.Downsample.bicubic(2, (8, 12)), (2, 8, 12), (2, 4, 6)),
    "bicubic 1-d": (ops.Separable.bicubic(4, (16,)), (2, 16), (2, 4)),
    "separable": (ops.Separable((normal(3, 5), normal(6, 4, seed=1)), 1e-10), (2, 5, 4), (2, 3, 6)),
    "separable 1-d": (ops.Separable((normal(3, 5),), 1e-10), (2, 5), (2, 3)),
    "separable uniform": (ops.Separable.uniform((12, 10)), (3, 12, 10), (3, 12, 10)),
    "separable gaussian": (ops.Separable.gaussian((9, 7)), (1, 9, 7), (1, 9, 7)),
    "separable anisotropic": (ops.Separable.anisotropic((12, 10)), (3, 12, 10), (3, 12, 10)),
    "separable published": (ops.Separable.uniform((8, 10), published=True), (3, 8, 10), (3, 8, 10)),
    "blur": (ops.Blur(mild(3, 4), (6, 5)), (2, 6, 5), (2, 6, 5)),
    "blur thresholded": (ops.Blur(positive(3, 3), (6, 6), 0.3), (2, 6, 6), (2, 6, 6)),
    "blur uniform": (ops.Blur.uniform((6, 9), 3), (2, 6, 9), (2, 6, 9)),
    "blur 1-d": (ops.Blur(mild(5), (8,)), (2, 8), (2, 8)),
    "blur gaussian": (ops.Blur.gaussian((8, 8), 1.0, width=5), (1, 8, 8), (1, 8, 8)),
    "blur motion": (ops.Blur.motion((8, 8), Noise(0), width=7, threshold=1e-2), (1, 8, 8), (1, 8, 8)),
    "band": (ops.Blur.band((9,)), (2, 9), (2, 9)),
    "band of pictures": (ops.Blur.band((6, 8), 0.1, 0.3), (1, 6, 8), (1, 6, 8)),
    "gray": (ops.Gray(), (3, 4, 2), (1, 4, 2)),
    "gray weights": (ops.Gray((0.2, -0.5)), (2, 7), (1, 7)),
    "gray negative": (ops.Gray((-0.2, 0.0, 0.7)), (3, 5), (1, 5)),
    "hadamard": (ops.Hadamard.random((8, 4), Noise(0)), (2, 8, 4), (2, 8)),
    "hadamard 1-d": (ops.Hadamard.random((8,), Noise(0), ratio=0.5), (1, 8), (1, 4)),
    "fourier": (ops.Fourier(RAGGED[:5, :6]), (2, 5, 6), (2, 2, 5, 6)),
    "fourier complex": (ops.Fourier(RAGGED[:5, :6], complex_valued=True), (4, 5, 6), (2, 2, 5, 6)),
    "block sensing": (ops.BlockSensing.random(Noise(0), block=4), (2, 8, 4), (2, 2, 1, 4)),
}
LINEAR = {
    "convolution reflect": (ops.Convolution(mild(3, 3)), (2, 5, 6), (2, 5, 6)),
    "convolution zero": (ops.Convolution(mild(3, 4), "zero"), (2, 5, 6), (2, 5, 6)),
    "convolution valid": (ops.Convolution(mild(2, 3), "valid"), (2, 5, 6), (2, 4, 4)),
    "convolution valid 1-d": (ops.Convolution(mild(4), "valid"), (2, 9), (2, 6)),
    "convolution 1-d": (ops.Convolution(mild(4)), (2, 9), (2, 9)),
    "decimated blur": (ops.DecimatedBlur(mild(3, 3), (6, 8), 2), (2, 6, 8), (2, 3, 4)),
    "decimated blur 1-d": (ops.DecimatedBlur(positive(4), (9,), 3), (2, 9), (2, 3)),
    "sense": (ops.SENSE(birdcage((4, 5), 3), RAGGED[:4, :5]), (1, 4, 5), (3, 2, 4, 5)),
    "sense complex": (ops.SENSE(birdcage((4, 5), 3), RAGGED[:4, :5], True), (2, 4, 5), (3, 2, 4, 5)),
    "radon": (ops.Radon((4, 5), (0.0, 0.3, 1.2, 2.5, 3.0), 4), (2, 4, 5), (2, 5, 4)),
    "radon fan": (ops.Radon.fan((4, 5), 3, source=6.0, behind=5.0, detectors=4), (1, 4, 5), (1, 3, 4)),
    "compose": (ops.Compose(ops.Downsample(2), ops.Mask(RAGGED)), (2, 8, 8), (2, 4, 4)),
    "compose three": (
        ops.Compose(ops.Downsample(2), ops.Compose(ops.Gray(), ops.Mask(RAGGED[:4, :4]))),
        (3, 4, 4),
        (1, 2, 2),
    ),
    "varying blur": (
        ops.VaryingBlur(
            (ops.Blur(mild(3, 3), (4, 5)), ops.Blur(mild(1, 2), (4, 5))), 0.5 + 0.1 * normal(2, 4, 5, seed=9)
        ),
        (2, 4, 5),
        (2, 4, 5),
    ),
    "linear function": (ops.LinearFunction(lambda x: x.flip(1).cumsum(1)[:, 1:], (5,)), (5,), (4,)),
}
ALL = SPECTRAL | LINEAR


def dense(operator, event):
    """The matrix of an operator, column by column."""
    eye = torch.eye(math.prod(event), dtype=torch.float64).reshape(-1, *event)
    return operator(eye).flatten(1).T


@pytest.mark.parametrize("name", ALL)
class TestLinear:
    def test_maps_the_event_linearly_row_by_row(self, name):
        A, event, measured = ALL[name]
        a, b = normal(2, *event), normal(2, *event, seed=1)
        y = A(a)
        assert tuple(y.shape) == (2, *measured) and y.dtype == torch.float64
        assert tuple(A.event(y)) == event
        assert tuple(A.adjoint(y).shape) == tuple(A.pinv(y).shape) == (2, *event)
        torch.testing.assert_close(A(2 * a - 3 * b), 2 * y - 3 * A(b), rtol=0, atol=1e-12)
        torch.testing.assert_close(A(a[1:]), y[1:], rtol=0, atol=1e-12)

    def test_adjoint(self, name):
        A, event, _ = ALL[name]
        assert ops.adjointness(A, (3, *event), Noise(7)) < 1e-14
        M = dense(A, event)
        eye = torch.eye(len(M), dtype=torch.float64)
        torch.testing.assert_close(A.adjoint(eye.reshape(-1, *ALL[name][2])).flatten(1), M, rtol=0, atol=1e-12)

    def test_pinv_is_moore_penrose(self, name):
        A, event, measured = ALL[name]
        M = dense(A, event)
        P = A.pinv(torch.eye(len(M), dtype=torch.float64).reshape(-1, *measured)).flatten(1).T
        # an iterative inverse is exact to the square of the condition number times rounding
        close = {"rtol": 0, "atol": 1e-10 if name in SPECTRAL else 1e-8}
        torch.testing.assert_close(M @ P @ M, M, **close)
        torch.testing.assert_close(P @ M @ P, P, **close)
        torch.testing.assert_close((M @ P).T, M @ P, **close)
        torch.testing.assert_close((P @ M).T, P @ M, **close)
        x = normal(2, *event, seed=2)
        torch.testing.assert_close(A.project(x).flatten(1), x.flatten(1) @ (P @ M).T, **close)

    @pytest.mark.parametrize("rho", [0.01, 2.0])
    def test_solve(self, name, rho):
        A, event, _ = ALL[name]
        M = dense(A, event)
        b = normal(2, *event, seed=5)
        expected = torch.linalg.solve(M.T @ M + rho * torch.eye(M.shape[1], dtype=M.dtype), b.flatten(1).T).T
        torch.testing.assert_close(A.solve(b, rho).flatten(1), expected, rtol=0, atol=1e-9)

    def test_follows_the_precision_of_the_data(self, name):
        A, event, _ = ALL[name]
        x = normal(2, *event)
        y = A(x)
        for got, expected in ((A(x.float()), y), (A.adjoint(y.float()), A.adjoint(y))):
            assert got.dtype == torch.float32
            torch.testing.assert_close(got, expected.float(), rtol=0, atol=2e-5)
        assert A.solve(x.float(), 1.0).dtype == torch.float32

    def test_differentiable(self, name):
        A, event, _ = ALL[name]
        x = normal(2, *event).requires_grad_()
        y = A(x)
        u = normal(*y.shape, seed=4)
        (grad,) = torch.autograd.grad((y * u).sum(), x)
        torch.testing.assert_close(grad, A.adjoint(u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SPECTRAL)
class TestSpectral:
    def test_data_basis_is_unitary(self, name):
        A, event, _ = SPECTRAL[name]
        x, other = normal(2, *event), normal(2, *event, seed=1)
        z, w = A.Vt(x), A.Vt(other)
        torch.testing.assert_close(A.V(z), x, rtol=0, atol=1e-12)
        assert isinstance(A, ops.Blur) or z.numel() == x.numel()
        inner = (z.conj() * w).real.sum()
        torch.testing.assert_close(inner, (x * other).sum(), rtol=0, atol=1e-11)

    def test_measurement_basis_is_unitary_where_something_is_seen(self, name):
        A, event, measured = SPECTRAL[name]
        z = A.Vt(normal(2, *event))  # drawn in the space of data: complex coefficients then have the right symmetry
        seen = (A.s > 0).expand(z.shape)
        y = A.U(torch.where(seen, z, 0.0))
        torch.testing.assert_close(torch.where(seen, A.Ut(y), 0.0), torch.where(seen, z, 0.0), rtol=0, atol=1e-12)
        torch.testing.assert_close(y.flatten(1).norm(dim=1), torch.where(seen, z, 0.0).flatten(1).norm(dim=1))
        # the null coefficients of measurements are 0, and those of data are ignored
        u = A.Ut(normal(2, *measured, seed=1))
        assert bool((u[~(A.s > 0).expand(u.shape)] == 0).all())
        torch.testing.assert_close(A.U(z), y, rtol=0, atol=1e-12)

    def test_singular_values(self, name):
        A, event, _ = SPECTRAL[name]
        z = A.Vt(normal(1, *event))
        expected = torch.linalg.svdvals(dense(A, event))
        padded = torch.zeros(math.prod(event), dtype=torch.float64)
        padded[: len(expected)] = expected
        got = A.s.double().expand(z.shape)
        if isinstance(A, ops.Blur):  # half a spectrum: a column says its opposite too
            n = event[-1]
            got = got.repeat_interleave(torch.tensor([1 if 2 * j % n == 0 else 2 for j in range(n // 2 + 1)]), -1)
        got = got.flatten().sort(descending=True).values
        torch.testing.assert_close(got, padded[: len(got)], rtol=0, atol=1e-10)

    def test_usv(self, name):
        A, event, _ = SPECTRAL[name]
        x = normal(2, *event)
        torch.testing.assert_close(A.U(A.s * A.Vt(x)), A(x), rtol=0, atol=1e-12)


def test_cast_keeps_complex_complex():
    assert cast(torch.ones(1, dtype=torch.complex128), torch.ones(1)).dtype == torch.complex64
    assert cast(torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.complex64)).dtype == torch.float32


@pytest.mark.parametrize("where", ["scale", "sign", "shape"])
def test_adjointness_finds_a_wrong_adjoint(where):
    class Wrong(ops.Matrix):
        def adjoint(self, y):
            right = super().adjoint(y)
            return {"scale": 1.5 * right, "sign": -right, "shape": right[:, :-1]}[where]

    A = Wrong(normal(3, 4))
    if where == "shape":
        with pytest.raises(ValueError, match=r"\(2, 3\) for data of shape \(2, 4\)"):
            ops.adjointness(A, (2, 4), Noise(0))
    else:
        x = Noise(0)
        a = x.normal(torch.empty(2, 4, dtype=torch.float64))
        u = x.normal(torch.empty(2, 3, dtype=torch.float64))
        inner = float((A(a) * u).sum() / (A(a).norm() * u.norm()))
        factor = {"scale": 0.5, "sign": 2.0}[where]
        assert ops.adjointness(A, (2, 4), Noise(0)) == pytest.approx(factor * abs(inner), rel=1e-12)


def test_adjointness_of_the_zero_operator_is_zero():
    A = ops.Mask(torch.zeros(4))
    assert ops.adjointness(A, (2, 4), Noise(0), dtype=torch.float32) == 0.0
