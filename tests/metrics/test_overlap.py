"""Overlapping area: numerical integration, the closed form of equal variances, and the public code's own form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfumato.metrics.overlap import framewise, likeness, overlap, published_overlap


def density(x, mean, var):
    return np.exp(-0.5 * (x - mean) ** 2 / var) / math.sqrt(2 * math.pi * var)


@pytest.mark.parametrize(
    "pair", [(60, 4, 60, 9), (60, 4, 62, 9), (62, 9, 60, 4), (50, 1, 70, 40), (0, 0.3, 0.1, 0.31), (0, 1, 30, 1.5)]
)
def test_it_is_the_integral_of_the_smaller_density(pair):
    x = np.linspace(-60, 160, 2_200_001)
    least = np.minimum(density(x, *pair[:2]), density(x, *pair[2:]))
    assert overlap(*pair) == pytest.approx(least.sum() * (x[1] - x[0]), abs=1e-7)


def test_equal_variances_and_one_law():
    assert overlap(60, 4, 62, 4) == pytest.approx(0.617075, abs=1e-6) == overlap(62, 4, 60, 4)
    assert overlap(60, 4, 62, 4 * (1 + 1e-9)) == pytest.approx(0.617075, abs=1e-5)
    assert overlap(3, 2, 3, 2) == 1.0
    for wrong in ((0, 0, 1, 1), (0, 1, 1, -1)):
        with pytest.raises(ValueError, match="variances are above 0"):
            overlap(*wrong)


@pytest.mark.parametrize(
    ("pair", "published", "exact"),
    [((60, 4, 60, 9), 0.903, 0.806), ((60, 4, 62, 9), 0.657, 0.654), ((60, 4, 62, 4), 1.0, 0.617)],
)
def test_the_public_code_takes_one_root(pair, published, exact):
    assert published_overlap(*pair) == pytest.approx(published, abs=6e-4)
    assert overlap(*pair) == pytest.approx(exact, abs=6e-4)


def test_windows_that_cannot_be_fitted_are_skipped():
    windows = [[58, 62], [60], [61, 61], [57, 63], [57, 63]]  # N(60, 4), N(60, 9) twice
    assert framewise(windows) == pytest.approx([overlap(60, 4, 60, 9), 1.0])
    assert framewise(windows, published_overlap)[0] == pytest.approx(0.903, abs=6e-4)
    assert framewise([[1, 2]]) == []


def test_likeness_by_hand():
    assert likeness([0.6, 0.8], [0.5, 0.9]) == pytest.approx((1.0, 0.25))
    said = likeness([0.2, 0.4], [0.5, 0.7])
    assert said == pytest.approx((0.5, 1.0))
    assert likeness([0.0, 4.0], [0.4, 0.6]) == (0.0, 0.0)
