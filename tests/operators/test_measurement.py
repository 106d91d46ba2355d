"""Measurements: simulation, rows, and the change to model space."""

import pytest
import torch

import sfumato as sf
from sfumato import operators as ops
from sfumato.codecs import Affine, Codec
from sfumato.noise import Noise, Seeds
from sfumato.operators import Measurement


def normal(*shape, seed=0):
    return Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


def test_simulated_noise_has_the_stated_deviation():
    A, x = ops.Downsample(2), normal(50, 2, 16, 16)
    m = Measurement.simulate(A, x, sigma=0.3, noise=Noise(1))
    assert m.sigma == 0.3 and isinstance(m.sigma, float) and len(m) == 50 and m.event == (2, 16, 16)
    n = m.residual(x)
    assert float(n.std()) == pytest.approx(0.3, rel=4 / (2 * n.numel()) ** 0.5)
    torch.testing.assert_close(n, 0.3 * Noise(1).normal(n), rtol=0, atol=1e-12)
    assert isinstance(Measurement.simulate(A, x, sigma=1, noise=Noise(1)).sigma, float)


def test_without_noise_nothing_is_drawn():
    noise, x = Noise(0), normal(1, 1, 2, 2)
    m = Measurement.simulate(ops.Downsample(2), x, sigma=0.0, noise=noise)
    torch.testing.assert_close(m.residual(x), torch.zeros(1, 1, 1, 1, dtype=torch.float64))
    assert torch.equal(noise.normal(x), Noise(0).normal(x)) and m.sigma == 0.0


def test_noise_is_zero_where_a_mask_sees_nothing():
    mask = ops.Mask.random((8, 8), 0.5, Noise(3))
    m = Measurement.simulate(mask, normal(2, 3, 8, 8), sigma=1.0, noise=Seeds([0, 1]))
    assert torch.equal(m.y == 0, (mask.mask == 0).expand(2, 3, 8, 8))


def test_residual_is_what_the_measurement_has_more():
    m = Measurement(ops.Gray((1.0, 2.0)), torch.tensor([[[10.0]]]), 0.1)
    assert m.residual(torch.tensor([[[1.0], [3.0]]])).tolist() == [[[3.0]]]


def test_repeat_puts_the_sample_index_first():
    m = Measurement(ops.Identity(), torch.tensor([[0.0, 1.0], [2.0, 3.0]]), 0.1).repeat(3)
    assert m.y.tolist() == [[0, 1], [2, 3]] * 3 and len(m) == 6 and m.sigma == 0.1
    one = Measurement(ops.Identity(), torch.zeros(2, 1, 4, 4), 0.1).repeat(2)
    assert one.y.shape == (4, 1, 4, 4) and one.event == (1, 4, 4)


@pytest.mark.parametrize("sigma", [-0.1, float("nan")])
def test_sigma_is_at_least_zero(sigma):
    with pytest.raises(ValueError, match="at least 0, got"):
        Measurement(ops.Identity(), torch.zeros(1, 2), sigma)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_y_is_finite(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        Measurement(ops.Identity(), torch.tensor([[0.0, bad]]), 0.1)


@pytest.mark.parametrize("scale, shift", [(0.5, 0.5), (-2.0, 0.3)])
def test_an_affine_codec_leaves_the_posterior_where_it_was(scale, shift):
    """p(x_0 | y) in data space, and p(z | y) in model space with z = (x_0 - shift) / scale, are the same law."""
    A = ops.Downsample(2, axes=1)
    root = normal(4, 4)
    mean, cov = normal(1, 4, seed=1), root @ root.T + 0.1 * torch.eye(4, dtype=torch.float64)
    y = normal(1, 1, 2, seed=2)
    m = Measurement(A, y, 0.2)
    data = sf.GaussianWorld(mean, cov).posterior(m)
    codec = Affine(scale, shift)
    inner = m.to_model(codec)
    assert inner.operator is A and inner.sigma == pytest.approx(0.2 / abs(scale)) and inner.event == (1, 4)
    model = sf.GaussianWorld((mean - shift) / scale, cov / scale**2).posterior(inner)
    torch.testing.assert_close(codec.decode(model.mean), data.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.cov * scale**2, data.cov, rtol=0, atol=1e-12)


def test_to_model_keeps_the_empty_places_of_a_mask_empty():
    m = Measurement.simulate(ops.Mask(torch.tensor([1.0, 0.0])), torch.rand(2, 2), sigma=0.1, noise=Noise(0))
    inner = m.to_model(Affine.unit())
    assert bool((inner.y[:, 1] == 0).all())
    torch.testing.assert_close(inner.y[:, 0], 2 * m.y[:, 0] - 1)


class Cubic(Codec):
    """x = z^3 with the axes of the event swapped: neither affine nor of the same shape."""

    def encode(self, x):
        return x.transpose(-1, -2).sign() * x.transpose(-1, -2).abs() ** (1 / 3)

    def decode(self, z):
        return z.transpose(-1, -2) ** 3

    def latent(self, event):
        return (*event[:-2], event[-1], event[-2])


def test_another_codec_makes_the_operator_a_function():
    x = normal(2, 1, 4, 6)
    m = Measurement.simulate(ops.Downsample(2), x, sigma=0.1, noise=Noise(0))
    inner = m.to_model(Cubic())
    assert isinstance(inner.operator, ops.Decoded) and not isinstance(inner.operator, ops.Linear)
    assert inner.event == (1, 6, 4) and inner.sigma == 0.1 and torch.equal(inner.y, m.y)
    torch.testing.assert_close(inner.residual(Cubic().encode(x)), m.residual(x), rtol=0, atol=1e-12)


def test_a_nonlinear_operator_stays_one_under_an_affine_codec():
    A = ops.Function(torch.tanh, (3,))
    m = Measurement(A, torch.full((1, 3), 0.5), 0.1)
    inner = m.to_model(Affine.unit())
    assert not isinstance(inner.operator, ops.Linear) and inner.sigma == 0.1
    z = torch.tensor([[-1.0, 0.0, 1.0]])
    torch.testing.assert_close(inner.residual(z), m.residual(torch.tensor([[0.0, 0.5, 1.0]])))


def test_a_bare_function_is_refused_with_what_to_wrap_it_in():
    with pytest.raises(
        TypeError, match=r"got builtin_function_or_method: wrap a function of your own in LinearFunction"
    ):
        Measurement(torch.tanh, torch.zeros(1, 2), 0.1)


MASKS = (torch.arange(24).reshape(4, 1, 2, 3) % torch.tensor([2, 3, 4, 5]).reshape(4, 1, 1, 1) == 0).double()


def per_row():
    """An operator with a mask, a kernel or a veil for each of four rows, and the same for row i alone."""
    kernels = normal(4, 1, 2, 2, seed=6)
    return {
        "mask": (ops.Mask(MASKS), lambda i: ops.Mask(MASKS[i])),
        "blur": (ops.Blur(kernels, (2, 3)), lambda i: ops.Blur(kernels[i], (2, 3))),
        "decimated": (ops.DecimatedBlur(kernels, (2, 3), 1), lambda i: ops.DecimatedBlur(kernels[i], (2, 3), 1)),
        "veil": (ops.Veil(MASKS[:, :, :1, :1] + 0.5, MASKS), lambda i: ops.Veil(MASKS[i, :, :1, :1] + 0.5, MASKS[i])),
        "number": (ops.Veil(0.5, MASKS), lambda i: ops.Veil(0.5, MASKS[i])),
        "composition": (
            ops.Compose(ops.Mask(MASKS), ops.Blur(kernels, (2, 3))),
            lambda i: ops.Compose(ops.Mask(MASKS[i]), ops.Blur(kernels[i], (2, 3))),
        ),
        "change of size": (
            ops.Compose(ops.Separable((normal(3, 2), normal(5, 3)), 1e-10), ops.Mask(MASKS)),
            lambda i: ops.Compose(ops.Separable((normal(3, 2), normal(5, 3)), 1e-10), ops.Mask(MASKS[i])),
        ),
        "one for all": (ops.Mask(MASKS[2, 0]), lambda i: ops.Mask(MASKS[2, 0])),
    }


@pytest.mark.parametrize("name", per_row())
def test_each_row_has_its_own_mask_or_kernel(name):
    A, alone = per_row()[name]
    x = normal(4, 2, 2, 3, seed=1)
    m = Measurement(A, A(x), 0.1)
    order = [3, 0, 0, 2, 1]
    picked = m.rows(order)
    assert picked.sigma == 0.1 and len(picked) == 5
    z = normal(5, 2, 2, 3, seed=2)
    got = picked.residual(z)
    for row, i in enumerate(order):
        want = Measurement(alone(i), alone(i)(x[i : i + 1]), 0.1).residual(z[row : row + 1])
        torch.testing.assert_close(got[row : row + 1], want, rtol=0, atol=1e-12)
    twice = m.repeat(2)
    torch.testing.assert_close(twice.residual(torch.cat([x, x])), torch.zeros_like(twice.y), rtol=0, atol=1e-12)


def test_masks_of_rows_go_to_model_space_with_them():
    m = Measurement(ops.Mask(MASKS), MASKS * normal(4, 2, 2, 3), 0.1)
    inner = m.to_model(Affine.unit())
    for i in range(4):
        one = Measurement(ops.Mask(MASKS[i]), m.y[i : i + 1], 0.1).to_model(Affine.unit())
        torch.testing.assert_close(inner.y[i : i + 1], one.y, rtol=0, atol=1e-12)


class Fourier(ops.Linear):
    """Half of the spectrum of a real signal: complex measurements of real data."""

    def __call__(self, x):
        return torch.fft.rfft(x, norm="ortho")

    def event(self, y):
        return (2 * y.shape[-1] - 2,)


class TestComplex:
    """Real data, complex measurements: A^T is the real part of A^H."""

    def test_adjoint(self):
        A = Fourier()
        assert ops.adjointness(A, (3, 8), Noise(7)) < 1e-14
        u = Noise(1).normal(torch.empty(2, 5, dtype=torch.complex128))
        rows = A(torch.eye(8, dtype=torch.float64))
        torch.testing.assert_close(A.adjoint(u), (u @ rows.conj().T).real, rtol=0, atol=1e-12)
        assert A.adjoint(u.to(torch.complex64)).dtype == torch.float32

    def test_pinv_and_solve(self):
        A, x = Fourier(), normal(2, 8)
        torch.testing.assert_close(A.pinv(A(x)), x, rtol=0, atol=1e-9)
        b = normal(2, 8, seed=3)
        rows = torch.view_as_real(A(torch.eye(8, dtype=torch.float64))).flatten(1)
        want = torch.linalg.solve(rows @ rows.T + 0.3 * torch.eye(8, dtype=torch.float64), b.T).T
        torch.testing.assert_close(A.solve(b, 0.3), want, rtol=0, atol=1e-9)

    def test_noise_and_model_space(self):
        A, x = Fourier(), normal(400, 8)
        m = Measurement.simulate(A, x, sigma=0.3, noise=Noise(1))
        assert float(m.residual(x).abs().square().mean()) == pytest.approx(0.09, rel=0.1)
        inner = m.to_model(Affine(2.0, 0.5))
        assert inner.sigma == pytest.approx(0.15) and inner.y.is_complex()
        torch.testing.assert_close(inner.residual((x - 0.5) / 2.0), m.residual(x) / 2.0, rtol=0, atol=1e-12)
        torch.testing.assert_close(m.energy(x), m.residual(x).abs().square().sum(1) / 0.18, rtol=1e-12, atol=0)

    def test_dps_takes_the_gradient_of_the_complex_norm(self):
        """A D = k A x on N(0, I): the pull is alpha A^T r / |r|."""
        world, t = sf.GaussianWorld(torch.zeros(8).double(), torch.eye(8).double()), 0.3
        A, x, process = Fourier(), normal(3, 8), sf.processes.LinearBeta()
        m, D = Measurement(A, A(normal(3, 8, seed=1)), 0.1), world.denoiser(process)
        free, pulled = (sf.solvers.DPS(zeta=z).step(D, m, x, t, 0.2, None, Noise(2))[0] for z in (0.0, 0.4))
        r = m.residual(process.alpha(t) * x)
        want = 0.4 * process.alpha(t) * A.adjoint(r) / r.abs().square().sum(1, keepdim=True).sqrt()
        torch.testing.assert_close(pulled - free, want, rtol=0, atol=1e-12)
