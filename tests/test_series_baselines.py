"""Naive forecasts and interpolations against what they are by definition; the page of series against its figures."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato import Noise
from sfumato.baselines import interpolate, seasonal_naive

ROOT = Path(__file__).parent.parent
NAN = math.nan


def test_a_season_without_errors_repeats():
    past = torch.tensor([[1.0, 2.0, 3.0] * 4, [5.0, 6.0, 7.0] * 4])
    found = seasonal_naive(past, 7, 3, 4, Noise(0))
    assert found.shape == (4, 2, 7)
    assert torch.equal(found[2], torch.tensor([[1.0, 2, 3, 1, 2, 3, 1], [5.0, 6, 7, 5, 6, 7, 5]]))


def test_errors_of_the_past_are_drawn_once_for_each_season_ahead():
    """A random walk, repeated one step on: h errors add up, so the variance is h times theirs."""
    eps = Noise(0).normal(torch.empty(1, 3000, dtype=torch.float64))
    found = seasonal_naive(eps.cumsum(1), 6, 1, 4000, Noise(1))[:, 0]
    assert torch.allclose(found.var(0), torch.arange(1, 7).double(), rtol=0.15)
    errors = set(eps[0, 1:].numpy().round(9))
    first = (found[:, 0] - eps.sum()).numpy().round(9)
    assert set(first) <= errors
    two = seasonal_naive(eps.cumsum(1), 4, 2, 4000, Noise(1))[:, 0]
    assert torch.allclose(two.var(0), torch.tensor([2.0, 2.0, 4.0, 4.0]).double(), rtol=0.2)


def test_missing_numbers_are_looked_for_further_back():
    past = torch.tensor([[9.0, 1.0, 2.0, 3.0, 4.0, NAN, NAN, 4.0]])
    drawn = seasonal_naive(past, 1, 2, 50, Noise(0)).flatten()  # 4 of two seasons ago, errors -7, 2, 2
    assert set(drawn.tolist()) == {-3.0, 6.0}
    steady = torch.tensor([[1.0, 2.0, 1.0, 2.0, NAN, 2.0, NAN, NAN]])
    assert seasonal_naive(steady, 2, 2, 3, Noise(0)).tolist() == [[[1.0, 2.0]]] * 3
    never = torch.tensor([[NAN, 2.0, NAN, 2.0, NAN, 2.0]])
    assert seasonal_naive(never, 2, 2, 1, Noise(0)).tolist() == [[[2.0, 2.0]]]
    for season in (0, 6):
        with pytest.raises(ValueError, match=r"at least 1 step and less than the past of 6"):
            seasonal_naive(never, 2, season, 1, Noise(0))


def test_lines_between_and_level_beyond():
    x = torch.tensor([[NAN, 1.0, NAN, NAN, 4.0, NAN], [NAN] * 6])
    assert interpolate(x).tolist() == [[1.0, 1.0, 2.0, 3.0, 4.0, 4.0], [0.0] * 6]
    assert x.isnan().sum() == 10  # the argument is as it was


def test_a_spline_follows_a_line_and_bends_with_a_curve():
    pytest.importorskip("scipy", reason="scipy of the extra baselines")
    t = torch.arange(9, dtype=torch.float64)
    x = torch.stack([2 * t + 1, (t - 4) ** 3 / 10])
    holes = x.clone()
    holes[:, [3, 6]] = NAN
    holes[0, 8] = NAN
    found = interpolate(holes, spline=True)
    assert torch.allclose(found[0, :8], x[0, :8])
    assert found[0, 8] == x[0, 7]
    line = interpolate(holes)
    for at in (3, 6):
        assert abs(found[1, at] - x[1, at]) < 0.6 * abs(line[1, at] - x[1, at])
    few = torch.tensor([[1.0, NAN, 3.0]])
    assert interpolate(few, spline=True).tolist() == [[1.0, 2.0, 3.0]]


def test_the_page_of_series_is_up_to_date_and_says_what_its_figures_say():
    spec = importlib.util.spec_from_file_location("series_page", ROOT / "tools/series_page.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.PAGE.read_text("utf-8")
    assert tool.page(text) == text, "docs/series.md is stale: run python tools/series_page.py"
    row = {"crps": 1.0, "crps_sum": 1.0, "mae": 1.0, "cover50": 0.5, "cover90": 0.9, "seconds": 1.0}
    sets = [{"set": "s", "tasks": {"forecast": {"sfumato": row, "seasonal naive": row | {"crps": 2.0}}}}]
    assert "than the simple rules on 1 of 1 sets, the best of all on 1. Coverage is" in tool.verdict(sets)
    assert tool.verdict(sets).endswith("for: none.")
    sets[0]["tasks"]["forecast"]["seasonal naive"] = row | {"crps": 0.5}
    sets[0]["tasks"]["forecast"]["sfumato"] = row | {"cover50": 0.54, "cover90": 0.86}
    said = tool.verdict(sets)
    assert "rules on 0 of 1 sets, the best of all on 0; not on s (seasonal naive)" in said
    assert "s 54% for 50 %, s 86% for 90 %" in said
    assert np.isfinite(float(tool.table("forecast", sets).splitlines()[2].split("|")[3]))
