import numpy as np
import pytest
import torch

import sfumato as sf
from sfumato.operators import PhaseRetrieval


@pytest.fixture
def x():
    return sf.Noise(0).normal(torch.zeros(2, 3, 6, 5).double())


def test_sizes_of_the_padded_spectrum(x):
    A = PhaseRetrieval(2)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)])
    spectrum = np.fft.fftshift(np.fft.fft2(padded, norm="ortho"), axes=(-2, -1))
    np.testing.assert_allclose(A(x).numpy(), np.abs(spectrum), atol=1e-12)
    assert A.event(A(x)) == (3, 6, 5)
    torch.testing.assert_close(A(x).square().sum(), x.square().sum())  # Parseval


def test_what_is_not_seen(x):
    A = PhaseRetrieval(2)
    for other in (-x, x.flip((-2, -1))):
        torch.testing.assert_close(A(other), A(x), atol=1e-12, rtol=0)
    inside = torch.zeros_like(x)
    inside[..., 1:5, 1:4] = x[..., 1:5, 1:4]
    torch.testing.assert_close(A(inside.roll((1, -1), (-2, -1))), A(inside), atol=1e-12, rtol=0)
    assert float((A(x.flip(-1)) - A(x)).abs().max()) > 0.1


def test_gradients(x):
    """d/dx |A x|^2 / 2 = x, by Parseval; none where there is nothing."""
    x.requires_grad_()
    (grad,) = torch.autograd.grad(0.5 * PhaseRetrieval(2)(x).square().sum(), x)
    torch.testing.assert_close(grad, x.detach(), atol=1e-12, rtol=0)
    zero = torch.zeros(1, 1, 4, 4).double().requires_grad_()
    y = PhaseRetrieval(1)(zero)
    (grad,) = torch.autograd.grad(y.sum(), zero)
    assert torch.equal(y, torch.zeros_like(y)) and torch.equal(grad, torch.zeros_like(zero))


def test_the_margin_of_the_papers():
    assert PhaseRetrieval.oversampled(256).margin == 64
    assert PhaseRetrieval.oversampled(256, 4.0).margin == 128
    with pytest.raises(ValueError, match="at least 0 is needed, got -1"):
        PhaseRetrieval(-1)
