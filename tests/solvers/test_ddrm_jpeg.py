import pytest
import torch

import sfumato as sf
from sfumato.operators import JPEG, Function, Measurement, Quantize
from sfumato.processes import EDM, Cosine, LinearBeta, Table
from sfumato.solvers import DDRMJPEG


@pytest.mark.parametrize("process", [LinearBeta(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("eta, keep_level, weight", [(1.0, False, 0.0), (0.6, False, 0.4), (0.6, True, 0.8)])
def test_a_step(world, matrix, given, process, eta, keep_level, weight):
    """alpha' (D + eta_b A^+ (y - A D)) + sigma' (eta z + w eps), w = 1 - eta (the paper) or sqrt(1 - eta^2)."""
    D, t, s = world.denoiser(process), 0.3, 0.2
    x, z = (sf.Noise(seed).normal(torch.zeros(2, 3).double()) for seed in (1, 2))
    m = Measurement(matrix, torch.tensor([[0.3, 1.0], [-0.2, 0.4]]).double(), 0.0)
    solver = DDRMJPEG(eta=eta, eta_b=0.4, keep_level=keep_level)
    got, _ = solver.step(D, m, x, t, s, solver.init(D, m, x), given(z))
    clean = D(x, t).mean
    eps = (x - process.alpha(t) * clean) / process.sigma(t)
    pulled = clean + 0.4 * (m.y - clean @ matrix.A.T) @ torch.linalg.pinv(matrix.A).T
    expected = process.alpha(s) * pulled + process.sigma(s) * (eta * z + weight * eps)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=0)


def test_full_trust_is_consistent(world, matrix):
    """eta_b = 1 through a linear operator: A x = y at the end."""
    m = Measurement(matrix, torch.tensor([[0.3, 1.0]]).double(), 0.0)
    x = DDRMJPEG(eta_b=1.0)(world.denoiser(LinearBeta()), m, sf.Noise(0))
    torch.testing.assert_close(matrix(x), m.y, atol=1e-12, rtol=0)
    half = DDRMJPEG(eta_b=0.5)(world.denoiser(LinearBeta()), m, sf.Noise(0))
    assert float((matrix(half) - m.y).abs().max()) > 1e-3


def test_it_starts_at_the_decoded_picture(world, matrix, given):
    m = Measurement(matrix, torch.tensor([[0.3, 1.0]]).double(), 0.0)
    z, D = torch.ones(1, 3).double(), world.denoiser(LinearBeta())
    got = DDRMJPEG().start(D, m, 0.3, given(z))
    expected = LinearBeta().alpha(0.3) * matrix.pinv(m.y) + LinearBeta().sigma(0.3) * z
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


def test_levels_of_a_picture(given):
    """Noise predictor 0: x' = alpha' (D + eta_b (dec(y) - dec(enc(D)))) + sigma' z, the levels of y kept apart."""
    A = JPEG.quality((16, 16), 20)
    world = sf.GaussianWorld(torch.zeros(3, 16, 16).double(), 0.1 * torch.eye(768).double())
    x, z = (0.3 * sf.Noise(seed).normal(torch.zeros(2, 3, 16, 16).double()) for seed in (1, 2))
    m, D, process = Measurement(A, A(x.flip(0)), 0.0), world.denoiser(LinearBeta()), LinearBeta()
    y = m.y.clone()
    solver = DDRMJPEG()
    got, _ = solver.step(D, m, x, 0.3, 0.2, solver.init(D, m, x), given(z))
    clean = D(x, 0.3).mean
    pulled = clean + 0.4 * (A.pinv(y) - A.pinv(A(clean)))
    torch.testing.assert_close(got, process.alpha(0.2) * pulled + process.sigma(0.2) * z, atol=1e-12, rtol=0)
    assert torch.equal(m.y, y)
    out = DDRMJPEG(4)(D, m, sf.Seeds([0, 1]))
    assert out.shape == (2, 3, 16, 16) and torch.equal(m.y, y)


def test_with_full_trust_a_picture_keeps_its_levels(given):
    """A prior that knows nothing but y: D = dec(y), so the result is dec(y), and its levels are y."""
    A, x = JPEG.quality((16, 16), 20), 0.2 * sf.Noise(1).normal(torch.zeros(1, 3, 16, 16).double())
    y = A(x)
    world = sf.GaussianWorld(A.pinv(y)[0], 1e-18 * torch.eye(768).double())
    out = DDRMJPEG(3)(world.denoiser(LinearBeta()), Measurement(A, y, 0.0), sf.Noise(0))
    torch.testing.assert_close(out, A.pinv(y), atol=1e-6, rtol=0)
    torch.testing.assert_close(A(out), y, atol=1e-9, rtol=0)


def test_times_of_the_paper(ddpm):
    assert DDRMJPEG().times(ddpm) == (*((1 + 15 * i) / 1000 for i in reversed(range(20))), 0.0)
    assert DDRMJPEG(steps=3, t0=0.1).times(ddpm) == (0.067, 0.034, 0.001, 0.0)
    for process in (Cosine(), EDM()):
        times = DDRMJPEG(steps=4).times(process)
        assert len(times) == 5 and times[-1] == 0.0
        for t, n in zip(times, (226, 151, 76, 1), strict=False):
            assert process.log_snr(t) == pytest.approx(Table.linear().log_snr(n / 1000))


def test_any_decoder_will_do(world):
    """Quantisation: the result lies nearer to the middles of its bins than the prior's own draws."""
    m = Measurement(Quantize(2, -2.0, 2.0), torch.tensor([[0.5, -0.5, 0.5]]).double(), 0.0)
    x = DDRMJPEG(eta_b=1.0)(world.denoiser(LinearBeta()), m, sf.Noise(0))
    torch.testing.assert_close(m.operator(x), m.y)


def test_one_call_a_step_and_rows_alone(world, measured, alone):
    D = sf.denoisers.Counted(world.denoiser(LinearBeta()))
    DDRMJPEG()(D, measured, sf.Noise(0))
    assert D.calls == 20
    alone(DDRMJPEG(eta=0.5), world.denoiser(LinearBeta()), measured)


def test_errors(world, ddpm):
    for fields in ({"eta": 1.1}, {"eta_b": -0.1}, {"t0": 1.5}):
        with pytest.raises(ValueError, match="is a share, from 0 to 1"):
            DDRMJPEG(**fields)
    with pytest.raises(ValueError, match="at least 1 step"):
        DDRMJPEG(steps=0)
    with pytest.raises(ValueError, match=r"20 steps do not fit below t0 = 0\.01 of 1000 levels"):
        DDRMJPEG(t0=0.01).times(ddpm)
    m = Measurement(Function(lambda x: x**2, (3,)), torch.ones(1, 3).double(), 0.0)
    with pytest.raises(TypeError, match="DDRMJPEG needs an operator with a decoder, `pinv`, got Function"):
        DDRMJPEG()(world.denoiser(LinearBeta()), m, sf.Noise(0))
