"""Classical baselines in cases whose answer is known."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato import Measurement, Noise, baselines
from sfumato.operators import Blur, Fourier, Function, Identity, Mask, kspace

pytest.importorskip("skimage", reason="needs the extra `baselines`")


def flat_halves(n=32):
    """A picture that is 0.25 on the left and 0.75 on the right."""
    x = torch.full((1, 3, n, n), 0.25, dtype=torch.float64)
    x[..., n // 2 :] = 0.75
    return x


def whole(n=32):
    """The identity, as an operator that is not called Identity."""
    return Mask(torch.ones(n, n))


def test_bicubic_is_pillows():
    y = Noise(0).uniform(torch.empty(2, 3, 9, 7))
    for factor in (2, 4):
        for row, done in zip(y, baselines.bicubic(y, factor)):
            for channel, enlarged in zip(row, done):
                picture = Image.fromarray(channel.numpy())
                expected = np.asarray(picture.resize((7 * factor, 9 * factor), Image.Resampling.BICUBIC))
                assert np.abs(enlarged.numpy() - expected.clip(0, 1)).max() < 1e-5


def test_biharmonic_continues_a_ramp_and_keeps_what_was_seen():
    ramp = (torch.arange(20.0)[:, None] + 2 * torch.arange(20.0)) / 80
    x = ramp.expand(1, 3, 20, 20).double()
    mask = torch.ones(20, 20)
    mask[8:11, 9:12] = 0
    filled = baselines.biharmonic(x * mask, mask)
    assert torch.allclose(filled, x, atol=1e-6)


def test_non_local_means_averages_what_is_alike():
    x, sigma = flat_halves(), 0.05
    y = x + sigma * Noise(0).normal(x)
    done = baselines.non_local_means(y, sigma)
    assert float((done - x).pow(2).mean()) < 0.1 * sigma**2
    assert torch.equal(done, baselines.non_local_means(y, sigma, cutoff=baselines.NLM * sigma))
    assert not torch.equal(done, baselines.non_local_means(y, sigma, cutoff=0.3 * sigma))


@pytest.mark.parametrize("operator", [Identity(), whole(8)], ids=["direct", "ADMM"])
def test_total_variation_lowers_a_step_by_weight_times_edge_over_area(operator):
    # Each half of an n x n picture has an edge of n and an area of n^2 / 2: it moves by 2 weight / n.
    x, weight = flat_halves(8), 0.2
    done = baselines.total_variation(Measurement(operator, x, 0.0), weight=weight)
    moved = 2 * weight / 8
    assert torch.allclose(done[..., :4], torch.full_like(done[..., :4], 0.25 + moved), atol=4e-3)
    assert torch.allclose(done[..., 4:], torch.full_like(done[..., 4:], 0.75 - moved), atol=4e-3)


@pytest.mark.parametrize(("operator", "constant"), [(Identity(), "TV_DENOISE"), (whole(), "TV_RESTORE")])
def test_the_weight_of_total_variation_grows_with_sigma(operator, constant):
    m = Measurement(operator, flat_halves() + 0.1 * Noise(0).normal(flat_halves()), 0.1)
    expected = baselines.total_variation(m, weight=0.1 * getattr(baselines, constant))
    assert torch.equal(baselines.total_variation(m), expected)


def test_total_variation_without_noise_needs_a_weight():
    with pytest.raises(ValueError, match="needs a weight above 0, got 0"):
        baselines.total_variation(Measurement(Identity(), flat_halves(), 0.0))


def test_one_step_of_wavelets_is_a_soft_threshold():
    """Of a square of four numbers: the mean stays, each of the three differences goes towards 0 by weight / 1.05, and
    all of it is 1 / 1.05 of y, since the step is a little shorter than the largest eigenvalue allows."""
    y = torch.tensor([[0.9, 0.3], [0.4, 0.2]], dtype=torch.float64)[None, None]
    done = baselines.wavelet(Measurement(whole(2), y, 0.0), weight=0.1, steps=1, levels=1)[0, 0]
    signs = torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]).double() / 2
    found = (signs * done).sum((1, 2)) * 1.05
    # 0.9, 0.4, 0.3, 0.2 before
    torch.testing.assert_close(found, torch.tensor([0.9, 0.3, 0.2, 0.1]).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (13, 10)])
def test_wavelets_without_weight_are_the_inverse(size):
    y = Noise(0).uniform(torch.empty(2, 3, *size, dtype=torch.float64))
    done = baselines.wavelet(Measurement(Mask(torch.ones(size)), y, 0.0), weight=0.0, steps=80, levels=3)
    torch.testing.assert_close(done, y, atol=1e-6, rtol=0)


def test_wavelets_complete_k_space():
    """A piecewise constant picture from a part of its k-space: much nearer than what was seen alone."""
    x = torch.full((1, 1, 32, 32), 0.25, dtype=torch.float64)
    x[..., 8:20, 6:24] = 0.75
    A = Fourier(kspace.poisson_disc((32, 32), Noise(0), acceleration=2.5, centre=0.2))
    m = Measurement(A, A(x), 0.0)
    errors = [float((found - x).pow(2).mean()) for found in (A.pinv(m.y), baselines.wavelet(m, weight=0.003))]
    assert errors[1] < 0.05 * errors[0]
    again = baselines.wavelet(Measurement(A, 2.0 * A(x), 0.0), weight=0.003)
    assert float(again.max()) == 1.0


def test_wiener_shrinks_towards_the_mean_of_each_picture():
    y = torch.cat([flat_halves(), flat_halves() / 2])
    done = baselines.wiener(Measurement(whole(), y, 0.1), spread=0.2)
    mean = torch.tensor([0.5, 0.25], dtype=torch.float64).reshape(2, 1, 1, 1)
    assert torch.allclose(done, mean + (y - mean) / (1 + 0.25), atol=1e-6)
    default = baselines.wiener(Measurement(whole(), y, 0.1))
    assert torch.equal(default, baselines.wiener(Measurement(whole(), y, 0.1), spread=baselines.WIENER))


def test_wiener_without_noise_inverts():
    y = flat_halves()
    assert torch.allclose(baselines.wiener(Measurement(whole(), y, 0.0)), y, atol=1e-6)


def test_richardson_lucy_of_the_identity_is_there_at_once():
    y = flat_halves()
    assert torch.allclose(baselines.richardson_lucy(Measurement(whole(), y, 0.0), steps=1), y, atol=1e-6)


def test_richardson_lucy_sharpens_and_keeps_the_light():
    x = flat_halves()
    m = Measurement.simulate(Blur.gaussian((32, 32), 1.5, width=13), x, sigma=0.0, noise=Noise(0))
    errors = [float((baselines.richardson_lucy(m, steps=n) - x).pow(2).mean()) for n in (1, 5, 30)]
    assert errors[2] < errors[1] < errors[0]
    done = baselines.richardson_lucy(m)
    assert float((done - x).pow(2).mean()) == pytest.approx(errors[2]) or baselines.LUCY != 30
    assert float(done.mean()) == pytest.approx(0.5, abs=1e-3)


def first_wavelets(m):
    return baselines.wavelet(m, weight=0.1)


@pytest.mark.parametrize(
    "method", [baselines.total_variation, baselines.wiener, baselines.richardson_lucy, first_wavelets]
)
def test_an_operator_that_is_not_linear_is_refused(method):
    m = Measurement(Function(lambda x: x**2, (3, 32, 32)), flat_halves(), 0.1)
    with pytest.raises(TypeError, match="needs a Linear operator, got Function"):
        method(m)


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    with pytest.raises(ImportError, match=r"pip install 'sfumato\[baselines\]'"):
        baselines.non_local_means(flat_halves(), 0.1)


def test_pictures_are_clipped_to_the_unit_range():
    y = 3 * flat_halves() - 1
    m = Measurement(whole(), y, 0.1)
    for done in (
        baselines.bicubic(y, 2),
        baselines.non_local_means(y, 0.1),
        baselines.total_variation(m, weight=0.01),
        baselines.total_variation(Measurement(Identity(), y, 0.1), weight=0.01),
        baselines.wiener(m, spread=1.0),
        baselines.wavelet(m, weight=0.01),
        baselines.richardson_lucy(m),
    ):
        assert float(done.min()) >= 0.0 and float(done.max()) <= 1.0 and float(done.max()) > 0.9
