import pytest
import torch

import sfumato as sf
from sfumato.operators import Fourier, Mask, Measurement, Quantize, kspace
from sfumato.processes import EDM, Geometric, LinearBeta, Rectified
from sfumato.samplers import ReverseDiffusion, SNRLangevin
from sfumato.solvers import ScoreMedical


@pytest.mark.parametrize("process", [Geometric(0.01, 20.0), LinearBeta(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("trust", [0.3, 1.0])
def test_what_was_measured_is_met_at_the_end(world, matrix, measured, process, trust):
    """With its noise, and with no spread along A."""
    x = ScoreMedical(30, trust=trust)(world.denoiser(process), measured, sf.Noise(0))
    torch.testing.assert_close(matrix(x), measured.y, atol=1e-12, rtol=0)


def test_a_step_is_mix_correct_mix_predict(world, matrix, measured):
    """Against the formula with dense matrices, draw by draw: z of a mix, the corrector, a mix, the predictor."""
    process, t, s = Geometric(0.01, 20.0), 0.6, 0.55
    D, solver, x = (
        world.denoiser(process),
        ScoreMedical(trust=0.7, moves=2),
        sf.Noise(9).normal(torch.zeros(3, 3).double()),
    )
    got, _ = solver.step(D, measured, x, t, s, solver.init(D, measured, x), sf.Noise(4))
    noise, inverse = sf.Noise(4), torch.linalg.pinv(matrix.A)

    def mixed(x):
        y = process.alpha(t) * measured.y + process.sigma(t) * noise.normal(x) @ matrix.A.T
        return x + 0.7 * (y - x @ matrix.A.T) @ inverse.T

    expected, _ = SNRLangevin(0.246, 2).step(D, mixed(x), t, t, None, noise)
    expected, _ = ReverseDiffusion().step(D, mixed(expected), t, s, None, noise)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("process", [Geometric(0.01, 5.0), LinearBeta()], ids=lambda p: type(p).__name__)
def test_the_law_of_a_step(affine_law, process):
    """N(0, c) data without corrector: of x ~ N(0, 1) at t the mixed state has mean trust alpha y and variance
    (1 - trust)^2 + (trust sigma)^2 where it was seen; the predictor multiplies by 2 - r - q^2 / (alpha^2 c + sigma^2)
    and adds q^2."""
    c, t, s, trust, y = 0.4, 0.5, 0.45, 0.7, 1.5
    world = sf.GaussianWorld(torch.zeros(2).double(), c * torch.eye(2).double())
    m = Measurement(Mask(torch.tensor([1.0, 0.0])), torch.tensor([[y, 0.0]]).double(), 0.1)
    times = (1.0, t, s)
    means, covs = zip(
        *(
            affine_law(ScoreMedical(trust=trust, moves=0), world.denoiser(process), m, times, stop=k, draws=8)
            for k in (1, 2)
        ),
        strict=True,
    )
    alpha, sigma = process.alpha(t), process.sigma(t)
    r = alpha / process.alpha(s)
    q2 = sigma**2 - (r * process.sigma(s)) ** 2
    gain = 2 - r - q2 / (alpha**2 * c + sigma**2)
    seen = (1 - trust) ** 2 * covs[0][0, 0] + (trust * sigma) ** 2
    assert float(covs[1][0, 0]) == pytest.approx(float(gain**2 * seen + q2), rel=1e-10)
    assert float(covs[1][1, 1]) == pytest.approx(float(gain**2 * covs[0][1, 1] + q2), rel=1e-10)
    mean = (1 - trust) * means[0][0] + trust * alpha * y
    assert float(means[1][0]) == pytest.approx(float(gain * mean), rel=1e-10)
    assert float(means[1][1]) == pytest.approx(0.0, abs=1e-12)


def test_the_unmeasured_part_follows_the_prior():
    """Independent frequencies: those that were not sampled have the variance of the prior after 120 levels."""
    world = sf.GaussianWorld(torch.zeros(1, 2, 4).double(), 0.5 * torch.eye(8).double())
    A = Fourier(kspace.equispaced((2, 4), acceleration=2.0, centre=0.0, offset=0))
    m = Measurement.simulate(A, world.sample(1, sf.Noise(0)), sigma=0.0, noise=sf.Noise(0)).repeat(1500)
    x = ScoreMedical(120, trust=1.0, moves=0)(world.denoiser(Geometric(0.01, 10.0)), m, sf.Noise(1))
    free = x - A.project(x)
    assert float(free.square().sum() / 1500) / 4 == pytest.approx(0.5, rel=0.1)  # 4 of 8 directions
    torch.testing.assert_close(A(x), m.y, atol=1e-12, rtol=0)


def test_calls_and_times(world, measured):
    D = sf.denoisers.Counted(world.denoiser(Geometric(0.01, 10.0)))
    ScoreMedical(7)(D, measured, sf.Noise(0))
    assert D.calls == 2 * 7 + 1
    D = sf.denoisers.Counted(world.denoiser(LinearBeta()))
    ScoreMedical(7, moves=0)(D, measured, sf.Noise(0))
    assert D.calls == 7
    assert ScoreMedical(4).times(Geometric(0.01, 10.0)) == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert ScoreMedical(3).times(LinearBeta()) == (1.0, 0.5005, 1e-3, 0.0)
    assert ScoreMedical(1).times(LinearBeta()) == (1.0, 0.0)
    assert len(ScoreMedical().times(EDM())) == 1001


def test_settings():
    tomography, brain = ScoreMedical(), ScoreMedical.mri()
    assert (tomography.steps, tomography.trust, tomography.snr, tomography.moves) == (1000, 0.841, 0.246, 1)
    assert (brain.steps, brain.trust, brain.snr, brain.moves) == (1000, 1.0, 0.517, 1)
    assert ScoreMedical.mri(5).steps == 5


def test_rows_do_not_see_each_other(world, measured, alone):
    alone(ScoreMedical(6), world.denoiser(Geometric(0.01, 10.0)), measured)


@pytest.mark.parametrize("fields", [{"moves": -1}, {"snr": 0.0}])
def test_settings_are_checked(fields):
    with pytest.raises(ValueError, match="moves >= 0 and snr > 0"):
        ScoreMedical(**fields)
    with pytest.raises(ValueError, match="trust is a share"):
        ScoreMedical(trust=1.1)


def test_it_needs_a_linear_operator(world):
    m = Measurement(Quantize(3), torch.zeros(1, 3).double(), 0.0)
    with pytest.raises(TypeError, match="ScoreMedical needs a Linear operator"):
        ScoreMedical()(world.denoiser(Rectified()), m, sf.Noise(0))
