"""Gradient magnitude similarity deviation where it can be worked out by hand."""

import math

import pytest
import torch

from sfumato import Noise
from sfumato.metrics import gmsd

C = 170 / 255**2


def ramp(*slopes, height=12):
    """A picture of vertical bands whose brightness rises by these slopes a pixel, 8 columns each."""
    steps = torch.tensor([s for s in slopes for _ in range(8)], dtype=torch.float64)
    return steps.cumsum(0).expand(1, 1, height, len(steps))


def similarity(a, b):
    return (2 * a * b + C) / (a**2 + b**2 + C)


def test_equal_and_shifted_pictures_are_at_no_distance():
    x = Noise(0).uniform(torch.empty(3, 3, 12, 14))
    assert gmsd(x, x).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert gmsd(0.5 * x + 0.3, 0.5 * x).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    # evenly unlike is not unlike: the same ramp, twice as steep
    assert float(gmsd(ramp(0.01), ramp(0.02))) == pytest.approx(0, abs=1e-7)


def test_two_bands_by_hand():
    """Gradient of a ramp of slope s after halving: columns differ by 2 s, and Prewitt's difference spans two: 4 s."""
    x, truth = ramp(0.01, 0.01), ramp(0.01, 0.03)
    # 8 columns of the halved picture, 6 where the operator fits; three see one band alone, the rest the border.
    place = truth[0, 0, 0].reshape(-1, 2).mean(1)
    other = x[0, 0, 0].reshape(-1, 2).mean(1)
    g = [similarity(float(other[i + 2] - other[i]), float(place[i + 2] - place[i])) for i in range(6)]
    mean = sum(g) / 6
    assert float(gmsd(x, truth)) == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in g) / 6), rel=1e-9)
    assert g[0] == pytest.approx(1.0) and g[-1] == pytest.approx(similarity(0.04, 0.12))


def test_it_is_symmetric_turns_with_the_picture_and_knows_its_range():
    noise = Noise(1)
    x, y = noise.uniform(torch.empty(2, 3, 16, 12).double()), noise.uniform(torch.empty(2, 3, 16, 12).double())
    assert torch.allclose(gmsd(x, y), gmsd(y, x))
    assert torch.allclose(gmsd(x, y), gmsd(x.transpose(2, 3), y.transpose(2, 3)))
    assert torch.allclose(gmsd(x, y), gmsd(255 * x, 255 * y, data_range=255.0))
    assert torch.allclose(gmsd(x, y)[1:], gmsd(x[1:], y[1:]))


def test_color_counts_by_its_luma():
    x, y = ramp(0.01, 0.01), ramp(0.01, 0.03)
    red = torch.zeros(1, 3, 12, 16).double()
    a, b = red.clone(), red.clone()
    a[:, 0], b[:, 0] = x[:, 0] / 0.299, y[:, 0] / 0.299
    assert float(gmsd(a, b)) == pytest.approx(float(gmsd(x, y)))
    a, b = red.clone(), red.clone()
    a[:, 1], b[:, 1] = x[:, 0] / 0.587, y[:, 0] / 0.587
    assert float(gmsd(a, b)) == pytest.approx(float(gmsd(x, y)))
    grey = x.expand(1, 3, 12, 16), y.expand(1, 3, 12, 16)
    assert float(gmsd(*grey)) == pytest.approx(float(gmsd(x, y)))


@pytest.mark.parametrize(
    ("a", "b"), [((1, 3, 8, 8), (1, 3, 8, 9)), ((1, 2, 8, 8),) * 2, ((1, 3, 5, 8),) * 2, ((3, 8, 8),) * 2]
)
def test_pictures_that_do_not_fit(a, b):
    with pytest.raises(ValueError, match="GMSD compares two batches"):
        gmsd(torch.zeros(a), torch.zeros(b))
