"""The estimate of the noise level and the chi-square of a residual."""

import pytest
import torch

from sfumato.noise import Noise
from sfumato.operators import Identity, Mask, Measurement
from sfumato.operators.levels import chi_square, estimate_sigma


@pytest.mark.parametrize("sigma", [0.02, 0.3])
@pytest.mark.parametrize("shape", [(1, 3, 120, 120), (2, 1, 101, 143)])
def test_white_noise_on_a_smooth_picture_is_found(sigma: float, shape: tuple[int, ...]) -> None:
    rows, columns = torch.linspace(0, 1, shape[-2])[:, None], torch.linspace(0, 1, shape[-1])
    y = rows + 0.5 * columns + sigma * Noise(0).normal(torch.empty(shape))
    n = shape[0] * shape[1] * (shape[2] // 2) * (shape[3] // 2)
    # The median of |N(0, 1)| has the standard error 1 / (2 f sqrt(n)), f = 2 phi(0.6745) = 0.6356; relative: / 0.6745.
    assert estimate_sigma(y) == pytest.approx(sigma, rel=4 * 1.1664 / n**0.5)


def test_edges_along_rows_or_columns_do_not_count_as_noise() -> None:
    stripes = torch.arange(64.0)[:, None] % 2 * torch.ones(64)
    for y in (stripes, stripes.T, stripes + stripes.T):
        assert estimate_sigma(y[None, None]) == pytest.approx(0.0, abs=1e-7)
    checks = (stripes + stripes.T) % 2
    assert estimate_sigma(checks[None, None]) == pytest.approx(1 / 0.6744897501960817)


def test_what_was_not_seen_is_left_out() -> None:
    y = 0.1 * Noise(1).normal(torch.empty(1, 1, 200, 200))
    mask = (Noise(2).uniform(torch.empty(200, 200)) < 0.8).float()
    with_holes = torch.where(mask > 0, y, 5.0)
    assert estimate_sigma(with_holes, mask) == pytest.approx(0.1, rel=0.08)
    assert estimate_sigma(with_holes) > 0.2
    few = torch.zeros(200, 200)
    few[:2, :30] = 1
    with pytest.raises(ValueError, match="15 blocks of 2 x 2 are too few"):
        estimate_sigma(with_holes, few)
    few[:2, :32] = 1
    assert estimate_sigma(with_holes, few) > 0


def test_tiny_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="0 blocks of 2 x 2 are too few to estimate the noise from: state sigma"):
        estimate_sigma(torch.zeros(1, 3, 1, 500))


def test_chi_square_is_one_for_the_truth_of_each_row() -> None:
    x0 = Noise(0).normal(torch.empty(2, 1, 50, 40))
    m = Measurement.simulate(Identity(), x0, sigma=0.3, noise=Noise(1))
    assert torch.allclose(chi_square(m, x0), torch.ones(2), atol=4 * (2 / 2000) ** 0.5)
    off = x0.clone()
    off[1] += 0.6
    ratio = chi_square(m, off)
    assert ratio[0] == chi_square(m, x0)[0] and ratio[1] == pytest.approx(1 + 4, rel=0.15)


def test_chi_square_counts_what_was_seen() -> None:
    mask = torch.zeros(50, 40)
    mask[:10] = 1
    x0 = Noise(0).normal(torch.empty(1, 3, 50, 40))
    m = Measurement.simulate(Mask(mask), x0, sigma=0.3, noise=Noise(1))
    assert float(chi_square(m, x0)) == pytest.approx(1.0, abs=4 * (2 / 1200) ** 0.5)
    blind = Measurement(Mask(torch.zeros(50, 40)), torch.zeros_like(x0), 0.3)
    assert float(chi_square(blind, x0)) == 0.0


def test_chi_square_needs_noise() -> None:
    with pytest.raises(ValueError, match="without noise there is no chi-square"):
        chi_square(Measurement(Identity(), torch.zeros(1, 2), 0.0), torch.zeros(1, 2))
