"""The backtest: what is hidden and from whom, and a calibration that gives back the law of the errors."""

import math
from dataclasses import replace

import pytest
import torch

from sfumato import Noise
from sfumato.data.series import Series
from sfumato.denoisers.kriged import Kriging, bent
from sfumato.zoo.backtest import Plan, choose, padded, swing, views
from sfumato.zoo.calibration import calibrated, normal_crps, rms
from sfumato.zoo.trials import TRIED, trials


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return Noise(seed).normal(torch.empty(*shape, dtype=torch.float64))


def test_trials_of_a_forecast_hide_the_last_rows_after_what_their_fold_learns() -> None:
    one = Series.of(noise(2, 200))
    found = trials([one], 10, None)
    assert 12 <= len(found) <= TRIED
    for trial in found:
        end = len(trial.series)
        assert end >= 100 and torch.equal(trial.series.values, one.values[:, :end])
        assert trial.hidden[:, -10:].all() and not trial.hidden[:, :-10].any()
        assert trial.known.values[:, -10:].isnan().all() and not trial.known.values[:, :-10].isnan().any()
        assert 2 <= trial.origin <= end - 10
    assert {trial.fold for trial in found} == {0, 1, 2}
    for fold in range(3):
        mine = [trial for trial in found if trial.fold == fold]
        assert {trial.origin for trial in mine} == {len(mine[0].series) - 10}
    assert trials([Series.of(noise(1, 12))], 10, None) == []


def test_many_series_learn_from_the_others() -> None:
    panel = [Series.of(noise(1, 60, seed=k)) for k in range(9)]
    found = trials(panel, 5, None)
    assert {trial.origin for trial in found} == {-1} and {trial.fold for trial in found} == {0, 1, 2}


def test_patterns_are_laid_on_what_is_known_and_moved_where_they_hide_nothing() -> None:
    values = noise(1, 80)
    values[0, 75:] = torch.nan
    given = torch.ones(1, 1, 20, dtype=torch.bool)
    given[0, 0, 15:] = False  # the table's own gap
    found = trials([Series.of(values)], 0, given)
    assert found and all(int(trial.hidden.sum()) >= 3 for trial in found)
    for trial in found:
        assert not (trial.hidden & trial.series.values.isnan()).any()
        assert not trial.hidden[:, :-20].any()
    single = torch.ones(1, 1, 20, dtype=torch.bool)
    single[0, 0, 4] = False
    many = trials([Series.of(noise(1, 80))], 0, single)
    places = {id(trial.known) for trial in many}
    assert len(many) == 4 * len(places)  # a number alone is asked about four times at each place
    assert all(int(trial.hidden.sum()) == 1 and int(trial.known.values.isnan().sum()) == 4 for trial in many)


@pytest.mark.parametrize("tail", [0.6, 1.0, 1.7])
def test_calibration_gives_back_size_and_shape(tail: float) -> None:
    z = bent(noise(4000, 2, 5), tail) * torch.tensor([3.0, 0.5], dtype=torch.float64)[:, None]
    wanted = torch.ones_like(z, dtype=torch.bool)
    gain, found = calibrated(z, wanted, 10**9)
    assert found == pytest.approx(tail, rel=0.05)
    torch.testing.assert_close(gain, torch.tensor([3.0, 0.5]).double(), rtol=0.06, atol=0)
    # Of 19 windows the levels become 0.526 and 0.947: those quantiles of |e| stand where 0.5 and 0.9 did.
    wide, heavier = calibrated(z, wanted, 19)
    quantiles = torch.tensor([0.7168, 1.9369]).double()  # of |e| at 0.5263 and 0.9474
    for at, q in zip((0.6745, 1.6449), quantiles, strict=True):
        expected = gain * bent(q, found)
        torch.testing.assert_close(wide * bent(torch.tensor(at).double(), heavier), expected, rtol=0.04, atol=0)


def test_errors_of_a_channel_without_trials_have_the_size_of_all() -> None:
    z, wanted = torch.full((10, 2, 3), 2.0).double(), torch.ones(10, 2, 3, dtype=torch.bool)
    wanted[:, 1] = False
    torch.testing.assert_close(rms(z, wanted), torch.tensor([2.0, 2.0]).double())


def test_plan_adds_a_level_and_the_waves_to_its_own_channels() -> None:
    series = Series.of(torch.zeros(1, 40), season=8)
    lag = torch.arange(-6, 7).double()
    expected = sum(torch.cos(2 * math.pi * k * lag / 8) / k**2 for k in (1, 2, 3, 4))
    found = swing([series], 6)
    torch.testing.assert_close(found, expected / expected[6])
    assert swing([Series.of(torch.zeros(1, 9))], 3).tolist() == [0.0] * 7
    table = torch.ones(2, 2, 13).double()
    K = Plan(Kriging(torch.empty(0)), 5, 0.4, level=3.0, wave=0.5).full(table, found).table
    own, across = torch.exp(-0.5 * (lag / 2) ** 2) + 3 + 0.5 * found, torch.exp(-0.5 * (lag / 2) ** 2)
    torch.testing.assert_close(K[0, 0], own)
    torch.testing.assert_close(K[1, 1], own)
    torch.testing.assert_close(K[0, 1], across)


def test_a_short_window_is_preceded_by_missing_rows() -> None:
    one = Series.of(noise(1, 4), noise(1, 4, seed=1))
    wide = padded(one, 6)
    assert wide.values[0, :2].isnan().all() and torch.equal(wide.values[:, 2:], one.values)
    assert wide.time.tolist() == [-2, -1, 0, 1, 2, 3] and wide.covariates[0, :2].tolist() == [0, 0]
    assert padded(one, 3).time.tolist() == [1, 2, 3]


def test_too_few_trials_leave_plain_choices() -> None:
    choice = choose([Series.of(noise(1, 9))], 5, None, [7])
    assert choice.held_out == {} and choice.length == 7
    assert (choice.scales.ridge, choice.scales.trend, choice.scales.shared) == (3.0, False, None)
    assert choice.law.gain is None and choice.law.dof == 1.0


def test_the_law_of_white_noise_is_found() -> None:
    """The error of a forecast of white noise is its spread, and its CRPS over that 1 / sqrt(pi)."""
    choice = choose([Series.of(5.0 + 2.0 * noise(1, 600))], 4, None, [8])
    assert choice.held_out["crps"] == pytest.approx(1 / math.sqrt(math.pi), rel=0.15)
    assert choice.held_out["trend"] == 0.0
    found = choice.law.posterior(torch.zeros(1, 1, 8), torch.arange(8)[None, None] < 4, torch.arange(8.0)[None])
    scale = float(choice.scales.encode(Series.of(5.0 + 2.0 * noise(1, 600)))[1].scale)
    assert float(found.std[0, 0, -1]) * scale == pytest.approx(2.0, rel=0.25)


def test_plans_of_one_table_score_as_they_do_alone() -> None:
    """Bases and solutions are shared among plans: of every order, floor, reach and length the score is its own."""
    x = noise(2, 90)
    x[1] += 0.7 * x[0]
    x[0, [20, 51, 77]] = torch.nan
    one = Series.of(x, season=6)
    tried = trials([one], 4, None)
    view = next(iter(views([one], tried, 16)))
    law = Kriging(torch.empty(0))
    plans = [
        Plan(replace(law, floor=floor, dof=dof), length, taper, level)
        for floor in (0.5, 1e-3)
        for dof in (math.inf, 2.0)
        for length, taper, level in ((16, math.inf, 0.0), (8, math.inf, 0.0), (16, 0.1, 0.0), (16, 0.1, 1.0))
    ]
    together = view.crps(plans)
    assert together == pytest.approx([view.crps([plan])[0] for plan in plans], rel=1e-12)
    assert len({round(score, 6) for score in together}) == len(plans)
    for plan, score in zip(plans, together, strict=True):
        assert normal_crps(*view.errors(plan)) == pytest.approx(score, rel=1e-12)


def test_the_score_is_the_crps_of_normal_laws_of_the_spread_that_is_seen() -> None:
    z = 3.0 * noise(40, 1, 6)
    s, wanted = torch.full_like(z, 2.0), torch.ones_like(z, dtype=torch.bool)
    wanted[:, :, 5] = False
    spread = 2.0 * float(rms(z, wanted)[0])
    assert spread == pytest.approx(6.0, rel=0.15)
    levels = (torch.arange(4000).double() + 0.5) / 4000
    draws = spread * torch.special.ndtri(levels)
    error = (2.0 * z)[wanted]
    expected = (draws - error[:, None]).abs().mean(1) - spread / math.sqrt(math.pi)  # E|X - y| - E|X - X'| / 2
    assert normal_crps(z, wanted, s) == pytest.approx(float(expected.mean()), rel=1e-3)


def test_few_places_stand_for_all() -> None:
    one = Series.of(noise(1, 300))
    view = next(iter(views([one], trials([one], 8, None), 24)))
    every = [int(fold.first.sum()) for fold in view.folds]
    assert sum(every) == 36 and [len(fold.x0) for fold in view.thin.folds] == [4, 4, 4]
    for fold, thin in zip(view.folds, view.thin.folds, strict=True):
        assert torch.equal(thin.x0, fold.x0[::3]) and torch.equal(thin.hidden, fold.hidden[::3])
    hidden = torch.ones(1, 1, 20, dtype=torch.bool)
    hidden[0, 0, 4] = False
    gaps = next(iter(views([one], trials([one], 0, hidden), 20)))
    assert sum(len(fold.x0) for fold in gaps.folds) == 4 * sum(int(fold.first.sum()) for fold in gaps.folds)
    assert all(bool(fold.first.all()) for fold in gaps.thin.folds)


def test_of_floors_that_score_alike_the_least_is_taken() -> None:
    """Two columns that are one: a floor leaves each as it is and tears them apart."""
    x = noise(1, 240)
    choice = choose([Series.of(torch.cat([x, 2.0 * x]))], 3, None, [6])
    law = replace(choice.law, gain=None)
    R = law.posterior(torch.zeros(1, 2, 6), (torch.arange(6) < 3).expand(1, 2, 6), torch.arange(6.0)[None]).parts[0][2]
    assert float(R[0, 3]) > 0.8


def test_channels_that_are_wholly_unknown_take_the_scale_of_all() -> None:
    """Short series of which a channel is hidden from end to end: on their own scales nothing could be scored."""
    panel = [Series.of(4.0 + noise(2, 20, seed=k)) for k in range(9)]
    patterns = torch.ones(2, 2, 20, dtype=torch.bool)
    patterns[0, 0], patterns[1, 1] = False, False
    choice = choose(panel, 0, patterns, [20])
    assert choice.held_out["shared"] == 1.0 and math.isfinite(choice.held_out["crps"])
    z = noise(4, 1, 3)
    assert normal_crps(z, torch.zeros_like(z, dtype=torch.bool), z) == math.inf


def test_a_channel_that_is_never_known_is_chosen_for_on_the_scale_of_the_others() -> None:
    """Short series whose second channel is hidden throughout: only the scale of all the series says where it lies."""
    panel = [Series.of(torch.stack([x := noise(40, seed=k), 3.0 * x + 100.0])) for k in range(12)]
    patterns = torch.ones(1, 2, 40, dtype=torch.bool)
    patterns[0, 1] = False
    choice = choose(panel, 0, patterns, (40,))
    assert choice.scales.shared is not None and choice.held_out["shared"] == 1.0
    # The errors of a channel that its twin tells exactly are far below its spread.
    assert choice.held_out["crps"] < 0.05
