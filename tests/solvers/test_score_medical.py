from itertools import pairwise

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


@pytest.mark.parametrize("process", [Geometric(0.01, 5.0), LinearBeta(), EDM()], ids=lambda p: type(p).__name__)
def test_the_ancestral_predictor_leaves_the_noise_of_the_new_level(affine_law, process):
    """Of x = x_0 + noise of t about a known x_0 (N(0, 1e-12)): sigma_s^2 at s, where the paper's leaves sigma_t^2
    and more, (1 - g)^2 sigma_t^2 + q^2, g = q^2 / sigma_t^2 (alpha = 1)."""
    world = sf.GaussianWorld(torch.zeros(1).double(), 1e-12 * torch.eye(1).double())
    m = Measurement(Mask(torch.tensor([0.0])), torch.zeros(1, 1).double(), 0.1)
    D, times = world.denoiser(process), (1.0, 0.5, 0.4)
    _, cov = affine_law(ScoreMedical(moves=0, predictor="ancestral"), D, m, times, draws=4)
    assert float(cov) == pytest.approx(float(process.sigma(0.4)) ** 2, rel=1e-6)
    _, cov = affine_law(ScoreMedical(moves=0), D, m, times, draws=4)
    if not isinstance(process, LinearBeta):
        var = process.sigma(1.0) ** 2
        for t, s in ((1.0, 0.5), (0.5, 0.4)):
            q2 = process.sigma(t) ** 2 - process.sigma(s) ** 2
            var = (1 - q2 / process.sigma(t) ** 2) ** 2 * var + q2
        assert float(cov) == pytest.approx(var, rel=1e-6)
        assert var > process.sigma(0.5) ** 2 - process.sigma(0.4) ** 2


@pytest.mark.parametrize(("steps", "predictor"), [(20, "ancestral"), (60, "ancestral"), (60, "reverse-diffusion")])
@pytest.mark.parametrize("snr", [0.16, 0.517])
def test_the_spread_of_every_frequency(steps, predictor, snr):
    """A stationary Gaussian is independent in k-space, so that its posterior is the prior where nothing was sampled,
    and every move is a recursion of its power v there, with the score's norm at its mean: s = 1 / (c + sigma^2),
    corrector v <- (1 - e s)^2 v + 2 e, e = 2 snr^2 n / sum_k s^2 v; predictors (1 - q^2 s)^2 v + q^2, or
    (k + (1 - k) c s)^2 v + sigma_s^2 (1 - k), k = sigma_s^2 / sigma_t^2; then Tweedie's (c s)^2 v."""
    n, process, solver = 16, EDM(), ScoreMedical(steps, trust=1.0, snr=snr, predictor=predictor)
    squares = sum(k**2 for k in torch.meshgrid(*[torch.arange(n) - n // 2] * 2, indexing="ij"))
    c = 0.3 / (1.0 + squares / 4.0)

    class Stationary(sf.denoisers.Denoiser):
        def __init__(self):
            super().__init__()
            self.process = process

        def forward(self, xt, t, cond=None):
            return sf.Estimate(kspace.inverse(c / (c + process.sigma(t) ** 2) * kspace.transform(xt)).real)

    A = Fourier(kspace.equispaced((n, n), acceleration=4.0, centre=0.1, offset=1))
    x0 = kspace.inverse(c.sqrt() * kspace.transform(sf.Noise(0).normal(torch.zeros(1, 1, n, n)))).real
    m = Measurement.simulate(A, x0, sigma=0.0, noise=sf.Noise(1)).repeat(200)
    x = solver(Stationary(), m, sf.Noise(2))
    torch.testing.assert_close(A(x), m.y, atol=1e-5, rtol=0)

    seen, known = A.s > 0, kspace.transform(A.pinv(m.y[:1])).abs().square()[0, 0]
    levels = [process.sigma(t) for t in solver.times(process)]
    v = levels[0] ** 2 * torch.ones(n, n)
    for t, s in pairwise(levels):
        steep = 1.0 / (c + t**2)
        e = 2.0 * snr**2 * n**2 / (steep**2 * torch.where(seen, known + t**2, v)).sum()
        v = (1.0 - e * steep) ** 2 * v + 2.0 * e
        q2, k = t**2 - s**2, s**2 / t**2
        if predictor == "ancestral":
            v = (k + (1.0 - k) * c * steep) ** 2 * v + s**2 * (1.0 - k)
        else:
            v = (1.0 - q2 * steep) ** 2 * v + q2
    v = (c / (c + levels[-1] ** 2)) ** 2 * v
    found = kspace.transform(x).abs().square().mean((0, 1))
    ratio = (found / v)[~seen]
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(ratio.min()) > 0.6 and float(ratio.max()) < 1.4  # of 200 rows: 4 standard deviations


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
    with pytest.raises(ValueError, match="'reverse-diffusion' or 'ancestral', got 'euler'"):
        ScoreMedical(predictor="euler")


def test_it_needs_a_linear_operator(world):
    m = Measurement(Quantize(3), torch.zeros(1, 3).double(), 0.0)
    with pytest.raises(TypeError, match="ScoreMedical needs a Linear operator"):
        ScoreMedical()(world.denoiser(Rectified()), m, sf.Noise(0))
