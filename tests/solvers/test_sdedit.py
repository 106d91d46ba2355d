from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato.denoisers import MeanOnly
from sfumato.operators import Identity, Mask
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.samplers import Ancestral
from sfumato.solvers import SDEdit


@pytest.fixture
def guide():
    return torch.tensor([[1.5, -0.2, 0.6], [-0.4, 0.3, -1.0]], dtype=torch.float64)


def _guided(guide):
    return sf.Measurement(Identity(), guide, 0.0)


def _theory(world, process, t0, guide):
    """Mean and covariance of exact reversal from alpha guide + sigma z: N(m + G (guide - m), V)."""
    a, s, C = process.alpha(t0), process.sigma(t0), world.cov
    gain = a * C @ torch.linalg.inv(a**2 * C + s**2 * torch.eye(3).double())
    mean = world.mean + gain @ (a * guide - a * world.mean)
    return mean, s**2 * gain @ gain.T + C - a * gain @ C


@pytest.mark.parametrize("process", [LinearBeta(), Rectified(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t0", [0.3, 0.6])
def test_law_on_gaussian_data(world, guide, affine_law, process, t0):
    """Ancestral steps have an error of first order: extrapolated away."""
    runs = [
        affine_law(SDEdit(t0=t0, passes=1, steps=n), world.denoiser(process), _guided(guide[:1])) for n in (60, 120)
    ]
    mean, cov = (2 * fine - rough for rough, fine in zip(*runs, strict=True))
    exact_mean, exact_cov = _theory(world, process, t0, guide[0])
    torch.testing.assert_close(mean, exact_mean, atol=4e-3, rtol=0)
    torch.testing.assert_close(cov, exact_cov, atol=1.5e-2, rtol=0)
    assert float((cov - exact_cov).norm()) < 0.3 * float((runs[0][1] - exact_cov).norm())


def test_two_passes_are_the_first_fed_to_the_second(world, guide):
    """Guides change between passes, and the noise of each is fresh."""
    D, process = world.denoiser(Rectified()), Rectified()
    twice = SDEdit(t0=0.5, passes=2, steps=7)(D, _guided(guide), sf.Noise(3))
    noise, x = sf.Noise(3), guide
    for _ in range(2):
        x1 = process.marginal(x, 0.5).sample(noise)
        times = SDEdit(t0=0.5, passes=1, steps=7).times(process)
        x = sf.sample(MeanOnly(D), Ancestral(), x1=x1, times=times, noise=noise)
    torch.testing.assert_close(twice, x, atol=1e-12, rtol=0)


def test_the_limits_of_t0(world, guide):
    """t0 -> 0 is the guide; from t0 = 1 of the straight path the guide is forgotten, and the law is the prior's."""
    D = world.denoiser(Rectified())
    near = SDEdit(t0=1e-6, passes=1, steps=3)(D, _guided(guide), sf.Noise(0))
    torch.testing.assert_close(near, guide, atol=1e-4, rtol=0)
    far = SDEdit(t0=1.0, passes=1, steps=20)
    runs = [far(D, _guided(g), sf.Noise(0)) for g in (guide, 5 - guide)]
    assert torch.equal(*runs)
    x1 = Rectified().prior(guide).sample(sf.Noise(0))
    noise = sf.Noise(0)
    noise.normal(guide)
    free = sf.sample(MeanOnly(D), Ancestral(), x1=x1, times=far.times(Rectified()), noise=noise)
    torch.testing.assert_close(runs[0], free, atol=1e-12, rtol=0)


def test_error_to_the_guide_grows_with_t0(world, affine_law, guide):
    D, errors = world.denoiser(LinearBeta()), []
    for t0 in (0.1, 0.3, 0.5, 0.7):
        mean, cov = affine_law(SDEdit(t0=t0, passes=1, steps=40), D, _guided(guide[:1]))
        errors.append(float(((mean - guide[0]) ** 2).sum() + cov.trace()))
    assert all(b > 1.01 * a for a, b in pairwise(errors)) and errors[3] > 3 * errors[0], errors


@pytest.mark.parametrize("process", [LinearBeta(), Rectified(), EDM()], ids=lambda p: type(p).__name__)
def test_the_kept_part_has_one_noise_for_a_pass(world, guide, process):
    """x_s = alpha_s guide + sigma_s z where nothing is edited, z that of the pass's start; the next pass has another,
    and the same guide."""
    solver = SDEdit(t0=0.6, passes=2, steps=4, edit=torch.tensor([0.0, 1.0, 1.0]))
    steps = list(solver.trajectory(world.denoiser(process), _guided(guide), sf.Noise(0)))
    assert [round(s.time, 2) for s in steps] == [0.6, 0.45, 0.3, 0.15, 0.0, 0.6, 0.45, 0.3, 0.15, 0.0]
    noises = []
    for part in (steps[:5], steps[5:]):
        z = (part[0].x - process.alpha(0.6) * guide)[:, 0] / process.sigma(0.6)
        for step in part:
            kept = process.alpha(step.time) * guide[:, 0] + process.sigma(step.time) * z
            torch.testing.assert_close(step.x[:, 0], kept, atol=1e-9, rtol=0)
        noises.append(z)
    assert float((noises[0] - noises[1]).abs().min()) > 1e-2
    if process.sigma(0.0) == 0.0:
        assert torch.equal(steps[-1].x[:, 0], guide[:, 0])
        assert float((steps[-1].x - guide)[:, 1:].abs().min()) > 1e-3


def test_edit_everywhere_is_no_mask_and_edit_nowhere_is_the_guide(world, guide):
    D = world.denoiser(LinearBeta())
    a, b, c = (
        SDEdit(steps=5, edit=edit)(D, _guided(guide), sf.Noise(0)) for edit in (None, torch.ones(3), torch.zeros(2, 3))
    )
    assert torch.equal(a, b)
    torch.testing.assert_close(c, guide, atol=1e-12, rtol=0)


def test_the_edited_part_sees_the_kept_one(world, guide, given):
    """The mask is applied after the step, at the new level: the step itself is the free one."""
    D, process, z = world.denoiser(LinearBeta()), LinearBeta(), torch.ones(2, 3).double()
    x = process.perturb(guide, 0.5, 0.3 * z)
    free, _ = SDEdit().step(D, _guided(guide), x, 0.5, 0.4, None, given(z))
    held, _ = SDEdit(edit=torch.tensor([0, 1, 0])).step(D, _guided(guide), x, 0.5, 0.4, None, given(z))
    assert torch.equal(held[:, 1], free[:, 1])
    torch.testing.assert_close(held[:, 0], process.perturb(guide, 0.4, 0.3 * z)[:, 0], atol=1e-12, rtol=0)


def test_another_operator_gives_its_pseudo_inverse_as_the_guide(world, matrix, given):
    y = torch.tensor([[0.4, -0.3]], dtype=torch.float64)
    m = sf.Measurement(matrix, y, 0.0)
    x = SDEdit().start(world.denoiser(LinearBeta()), m, 0.5, given(torch.zeros(1, 3).double()))
    torch.testing.assert_close(x, LinearBeta().alpha(0.5) * matrix.pinv(y), atol=1e-12, rtol=0)


def test_defaults_are_those_of_the_public_script(ddpm):
    times = SDEdit().times(ddpm)
    assert len(times) == 3 * 501 and times[0] == times[501] == 0.5 and times[500] == 0.0
    assert max(abs(1000 * t - round(1000 * t)) for t in times) < 1e-9


def test_batches(world, guide, alone):
    alone(SDEdit(steps=5), world.denoiser(LinearBeta()), _guided(guide))
    alone(SDEdit(steps=5, edit=torch.tensor([1.0, 0.0, 1.0])), world.denoiser(LinearBeta()), _guided(guide))


@pytest.mark.parametrize("settings", [{"t0": 0.0}, {"t0": 1.1}, {"passes": 0}])
def test_settings(settings):
    with pytest.raises(ValueError, match="SDEdit: 0 < t0 <= 1 and at least 1 pass"):
        SDEdit(**settings)


def test_a_mask_as_operator_hides_the_guide(world, guide, given):
    """What a mask does not see is not part of the guide: it starts from 0."""
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0, 1.0])), guide, 0.0)
    x = SDEdit().start(world.denoiser(LinearBeta()), m, 0.5, given(torch.zeros(2, 3).double()))
    assert float(x[:, 1].abs().max()) == 0.0
