"""MSE, PSNR and SSIM against scikit-image, and in cases worked by hand."""

import math

import pytest
import torch

from sfumato import Noise
from sfumato.metrics import mse, psnr, ssim


def pair(dtype=torch.float64):
    noise, like = Noise(0), torch.empty(3, 3, 40, 33, dtype=dtype)
    x = noise.uniform(like)
    return x, (x + 0.1 * noise.normal(like)).clamp(0, 1)


def test_mse_is_per_item():
    x = torch.tensor([[1.0, 2.0], [3.0, 3.0]])
    assert mse(x, torch.tensor([[0.0, 0.0], [3.0, 1.0]])).tolist() == [2.5, 2.0]


def test_mse_does_not_broadcast():
    with pytest.raises(ValueError, match=r"\(2, 3\) but the truth \(1, 3\)"):
        mse(torch.zeros(2, 3), torch.zeros(1, 3))


def test_psnr_by_hand():
    x = torch.tensor([[0.0, 0.1], [0.0, 0.0]], dtype=torch.float64)
    truth = torch.tensor([[0.1, 0.0], [0.0, 0.0]], dtype=torch.float64)
    first, second = psnr(x, truth).tolist()
    assert first == pytest.approx(20.0) and second == math.inf
    assert float(psnr(10 * x[:1], 10 * truth[:1], data_range=10.0)[0]) == pytest.approx(20.0)


def test_psnr_is_skimage():
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pair()
    for i, value in enumerate(psnr(x, y)):
        expected = metrics.peak_signal_noise_ratio(y[i].numpy(), x[i].numpy(), data_range=1.0)
        assert float(value) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_is_skimage(data_range):
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pair()
    for i, value in enumerate(ssim(x, y, data_range=data_range)):
        expected = metrics.structural_similarity(
            x[i].numpy(),
            y[i].numpy(),
            channel_axis=0,
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert float(value) == pytest.approx(expected, abs=1e-10)


def test_ssim_of_constants_is_the_luminance_term():
    x, y = torch.full((1, 1, 11, 11), 0.2, dtype=torch.float64), torch.full((1, 1, 11, 11), 0.6, dtype=torch.float64)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert float(ssim(x, y)[0]) == pytest.approx(expected, abs=1e-12)
    assert float(ssim(x, x)[0]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "shapes", [((1, 1, 10, 11), (1, 1, 10, 11)), ((1, 11, 11), (1, 11, 11)), ((1, 1, 12, 12), (2, 1, 12, 12))]
)
def test_ssim_needs_two_batches_of_pictures(shapes):
    with pytest.raises(ValueError, match="sides of at least 11"):
        ssim(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
