import pytest
import torch

import sfumato as sf
from sfumato.nets import RealNVP


@pytest.fixture
def flow():
    """Five numbers, three couplings, weights that are all but nothing."""
    flow = RealNVP(5, 3, 7, noise=sf.Noise(0)).double()
    for i, weight in enumerate(flow.parameters()):
        weight.data.add_(0.4 * sf.Noise(i).normal(weight.data))
    return flow


def test_it_begins_as_the_identity():
    u = sf.Noise(1).normal(torch.zeros(4, 5))
    x, volume = RealNVP(5, noise=sf.Noise(0))(u)
    assert torch.equal(x, u) and volume.tolist() == [0.0] * 4


def test_the_volume_is_that_of_its_jacobian(flow):
    u = sf.Noise(1).normal(torch.zeros(4, 5).double())
    _, volume = flow(u)
    for row, v in zip(u, volume, strict=True):
        J = torch.autograd.functional.jacobian(lambda w: flow(w[None])[0][0], row)
        assert v.item() == pytest.approx(float(torch.linalg.slogdet(J)[1]), abs=1e-10)
        assert float(J.abs().amin(1).max()) > 0  # numbers are mixed


def test_scales_are_held(flow):
    """One coupling multiplies by at most e^2, whatever its weights."""
    one = RealNVP(4, 1, 3, noise=sf.Noise(0)).double()
    for weight in (*one.inner.parameters(), *one.outer.parameters()):
        weight.data.fill_(100.0)
    _, volume = one(torch.ones(1, 4).double())
    assert volume.item() == pytest.approx(2 * 2.0, abs=1e-6)


def test_one_number_is_too_few():
    with pytest.raises(ValueError, match="at least 2 numbers"):
        RealNVP(1, noise=sf.Noise(0))


def test_there_and_back_is_the_identity_with_opposite_volumes(flow):
    flow.log_scale.data.add_(0.3)
    u = sf.Noise(1).normal(torch.zeros(4, 5).double())
    x, volume = flow(u)
    back, other = flow.inverse(x)
    assert torch.allclose(back, u, atol=1e-10) and not torch.allclose(x, u)
    assert torch.allclose(other, -volume, atol=1e-10)
