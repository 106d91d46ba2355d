"""From tables to series, scales and windows; the readers of real sets on small files of their formats."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato import Noise, Seeds
from sfumato.data import series_sets
from sfumato.data.csv_tables import read_csv
from sfumato.data.series import Series, Standard, Windows, choose, joined, resampled, risen, stacked, waves
from sfumato.data.stamps import parse
from sfumato.data.tables import Columns

NAN = float("nan")


def days(n, start=1):
    return [f"2020-{1 + (start - 1 + k) // 28:02}-{1 + (start - 1 + k) % 28:02}" for k in range(n)]


def hourly(n):
    from datetime import datetime, timedelta

    return [(datetime(2020, 1, 6) + timedelta(hours=k)).strftime("%Y-%m-%d %H:%M") for k in range(n)]


def table(**extra):
    return Columns(
        {"t": hourly(6), "a": [1.0, 2.0, NAN, 4.0, 5.0, 6.0], "b": np.arange(6), "w": list("uvwxyz"), **extra}
    )


def test_targets_are_the_other_columns_of_numbers():
    chosen = choose(table(), time="t")
    assert chosen.targets == ("a", "b")
    assert np.array_equal(chosen.series.values.numpy(), [[1, 2, NAN, 4, 5, 6], range(6)], equal_nan=True)
    assert chosen.series.time.tolist() == [0, 1, 2, 3, 4, 5]
    assert chosen.ahead == 0
    assert choose(table(), targets=["b"]).targets == ("b",)
    assert choose(Columns({"a": [1.0, 2.0]})).stamps.words() == ["0", "1"]


def test_a_horizon_appends_rows():
    chosen = choose(table(), time="t", horizon=3)
    assert chosen.ahead == 3
    assert chosen.series.values.shape == (2, 9)
    assert chosen.series.values[:, 6:].isnan().all()
    assert chosen.stamps.words()[6:] == ["2020-01-06 06:00", "2020-01-06 07:00", "2020-01-06 08:00"]


def test_known_columns_go_on_ahead():
    made = table(k=[1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    made.columns["a"][4:], made.columns["b"] = NAN, np.array([0, 1, 2, 3, NAN, NAN])
    chosen = choose(made, time="t", known=["k"], horizon=2)
    assert chosen.targets == ("a", "b")
    assert chosen.series.values.shape == (2, 6)
    assert chosen.ahead == 2
    k = np.array([1, 2, 3, 4, 5, 9.0])
    assert np.allclose(chosen.series.covariates[0], (k - k.mean()) / k.std())
    shorter = choose(made, time="t", known=["k"], horizon=1)
    assert shorter.series.values.shape == (2, 5)
    assert len(shorter.stamps) == 5
    with pytest.raises(
        ValueError, match=r"goes on for 2 rows after the last target, and known columns are needed for 3"
    ):
        choose(made, time="t", known=["k"], horizon=3)
    same = choose(table(k=[2.0] * 6), time="t", known=["k"])
    assert (same.series.covariates[0] == 0).all()


def test_statics_are_one_number():
    assert choose(table(s=[2.5] * 6), static=["s"], targets=["a"]).series.static.tolist() == [2.5]
    with pytest.raises(ValueError, match=r"static column 's' .* changes in row 3: is it a known one"):
        choose(table(s=[2.0, 2.0, 3.0, 2.0, 2.0, 2.0]), static=["s"])


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: table(), {"time": "q"}, "no column 'q'"),
        (lambda: table(), {"targets": ["a", "q"]}, "no column 'q'"),
        (lambda: table(), {"known": ["b"], "targets": ["a", "b"]}, "column 'b' is a target and something else"),
        (lambda: Columns({"w": ["x", "y"]}), {}, "no column of numbers to model: it has w"),
        (lambda: Columns({"a": [1.0]}), {}, "has one row: a series has at least 2"),
        (lambda: Columns({"a": [NAN, NAN], "b": [1.0, 2.0]}), {}, "column 'a' of the table is all missing"),
        (
            lambda: table(k=[1.0, NAN, 3.0, 4.0, 5.0, 6.0]),
            {"known": ["k"]},
            "known column 'k' of the table is missing in row 2",
        ),
        (lambda: table(), {"horizon": 7}, "a horizon of 7 is longer than the 6 rows"),
        (lambda: table(), {"step": "1h"}, "no dates to resample"),
        (lambda: table(), {"time": "t", "step": "1s", "targets": ["w"]}, "holds <U1, not numbers"),
    ],
)
def test_what_cannot_be_modelled(make, options, words):
    with pytest.raises(ValueError, match=words):
        choose(make(), **options)


def test_resampling_takes_the_mean_of_each_step_and_leaves_holes():
    stamps = ["2020-01-01 00:10", "2020-01-01 00:50", "2020-01-01 01:00", "2020-01-01 03:59"]
    made = Columns({"t": stamps, "a": [1.0, 2.0, NAN, 5.0]})
    new, grid = resampled(made, made.stamps("t"), "1h", ["a"], "t")
    assert grid.words() == [f"2020-01-01 0{k}:00" for k in range(4)]
    assert np.array_equal(new.numbers("a"), [1.5, NAN, NAN, 5.0], equal_nan=True)
    assert new.names == ("t", "a")
    assert choose(made, time="t", step="2h").series.values.tolist()[0] == [1.5, 5.0]


def test_grids_begin_on_the_beat():
    def first(words, step, zone=""):
        from sfumato.data.stamps import duration

        return parse(words, "t", zone).grid(*duration(step))

    grid, place = first(["2020-01-15", "2020-02-20", "2020-04-01"], "1month")
    assert grid.words() == ["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"]
    assert place.tolist() == [0, 1, 3]
    grid, place = first(["2020-01-08", "2020-01-22"], "1w")  # a Wednesday; weeks begin on Monday
    assert grid.words() == ["2020-01-06", "2020-01-13", "2020-01-20"]
    assert place.tolist() == [0, 2]
    grid, _ = first(["2020-01-01", "2020-01-02"], "12h")
    assert grid.words() == ["2020-01-01 00:00:00", "2020-01-01 12:00:00", "2020-01-02 00:00:00"]
    grid, place = first(["2020-03-28 12:00", "2020-03-30 12:00"], "1d", "Europe/Berlin")
    assert grid.words() == ["2020-03-28 00:00", "2020-03-29 00:00", "2020-03-30 00:00"]
    assert np.diff(grid.utc).tolist() == [86_400_000_000, 82_800_000_000]
    grid, _ = first(["2020-03-29 00:30", "2020-03-29 04:30"], "1h", "Europe/Berlin")
    assert grid.words() == [f"2020-03-29 0{k}:00" for k in (0, 1, 3, 4)]


def test_resampling_refuses_a_grid_without_end():
    made = Columns({"t": ["1970-01-01 00:00:00", "2020-01-01 00:00:00"], "a": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"has 1577836801 rows for 2: take a longer step"):
        resampled(made, made.stamps("t"), "1s", ["a"], "t")


# Scales


def test_a_scale_finds_the_level_and_undoes_itself():
    stamps = parse(hourly(240), "t")
    wave = torch.from_numpy(stamps.calendar(1))[:2]
    x = torch.stack([5 + 2 * wave[0] - wave[1], torch.full((240,), 3.0).double(), -4 * wave[0]])
    x += 0.01 * Noise(0).normal(x) * torch.tensor([[1.0], [0.0], [1.0]])
    x[0, 5] = torch.nan
    series = Series.of(x, stamps=stamps)
    scale = Standard.fit(series, 1e-6)
    assert scale.constant.tolist() == [False, True, False]
    assert scale.scale[1] == 0.0
    assert 0.008 < float(scale.scale[0]) < 0.014
    z = scale.encode(series)
    n, used = 239, 24  # an hour of a day has 24 means; cross-validated: n - 24 of n numbers are free
    assert abs(float(z.values[0].nan_to_num(0.0).square().sum()) / n - (1 - used / n) ** 2) < 1e-6
    assert (z.values[1] == 0).all()
    assert torch.allclose(scale.decode(z.values, series).nan_to_num(0.0), x.nan_to_num(0.0))
    assert scale.decode(z.values.expand(4, 3, 240), series).shape == (4, 3, 240)


def test_ridge_draws_the_slopes_to_the_mean():
    x = torch.tensor([[0.0, 10.0, 0.0, 10.0]])
    wave = torch.tensor([[-1.0, 1.0, -1.0, 1.0]])
    loose, tight = (Standard.fit(Series.of(x, wave), ridge).slope[0] for ridge in (1e-9, 4.0))
    assert torch.allclose(loose, torch.tensor([5.0, 5.0]).double())
    assert torch.allclose(tight, torch.tensor([5.0, 2.5]).double())  # 4 x 5 over 4 + 4; the level is not drawn


def test_a_series_with_one_number_is_constant():
    scale = Standard.fit(Series.of(torch.tensor([[torch.nan, 4.0, torch.nan], [torch.nan] * 3])))
    assert scale.constant.all()
    assert scale.slope[:, 0].tolist() == [4.0, 0.0]


def test_the_kth_harmonic_is_drawn_k_squared_as_strongly():
    """Squares of a wave over whole periods are n / 2: its slope is n / 2 over n / 2 + ridge k^2 of what it was."""
    x = torch.from_numpy(waves(np.arange(48), 24, 3)).double()
    series = Series.of(x.sum(0, keepdim=True), season=24)
    drawn, (n, ridge) = Standard.fit(replace(series, covariates=series.covariates[:0]), 6.0), (48, 6.0)
    for k in range(3):
        expected = (n / 2) / (n / 2 + ridge * (k + 1) ** 2)
        assert torch.allclose(drawn.slope[0, 1 + 2 * k : 3 + 2 * k], torch.full((2,), expected).double(), atol=1e-6)
    assert [float(one.slope[0, 1]) for one in Standard.fits(series, (2.0, 9.0))] == [
        float(Standard.fit(series, ridge).slope[0, 1]) for ridge in (2.0, 9.0)
    ]


def test_orders_of_the_calendar():
    stamps = parse(hourly(24 * 21), "t")
    orders = stamps.orders(2)
    assert len(orders) == len(stamps.calendar(2)) == 2 * 14
    assert orders[::2].tolist() == [1, 2, 3, 4, 5, 6, 1, 8, 9, 10, 11, 12, 13, 2]  # days among the harmonics of a week
    assert parse(hourly(60), "t").orders(3).tolist() == [1, 1, 2, 2, 3, 3]
    assert Series.of(torch.zeros(1, 24), season=8).orders.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_time_itself_and_rows_put_together():
    one = Series.of(torch.tensor([[1.0, 2.0, 4.0, NAN, NAN]]), season=2)
    row = risen(one).cycles[-1]
    assert abs(float(row[:3].mean())) < 1e-12 and float(row[:3].std()) == pytest.approx(1.0)
    assert float(row[4] - row[3]) == pytest.approx(float(row[1] - row[0]))
    assert risen(one).orders.tolist() == [1, 1, 1] and len(risen(one).orders) == len(one.cycles) + 1
    single = risen(one.cut(0, 1)).cycles[-1]
    assert single.tolist() == [0.0]
    both = joined([one, one.cut(1, 3)])
    assert both.values[0, -2:].tolist() == [2.0, 4.0] and both.time.tolist() == [0, 1, 2, 3, 4, 1, 2]
    assert both.cycles.shape == (2, 7) and both.covariates.shape == (2, 7)


def test_waves_have_the_season():
    found = waves(np.arange(24), 8, 10)
    assert found.shape == (8, 24)  # four harmonics of eight rows
    assert np.allclose(found[:, :8], found[:, 8:16])
    assert np.allclose(found[0, :3], np.sin(np.pi / 4 * np.arange(3)))
    assert Series.of(torch.zeros(1, 24), season=8).covariates.shape == (2, 24)
    assert Series.of(torch.zeros(1, 24), season=8).cycles.shape == (8, 24)


# Windows


def test_windows_hold_enough_numbers():
    x = torch.tensor([[1.0, NAN, NAN, NAN, 5.0, 6.0]])
    windows = Windows([Series.of(x), Series.of(x[:, :2])], 3, least=2)
    assert windows.starts == [(0, 3)]
    assert len(Windows([Series.of(x)], 3, least=1)) == 3
    with pytest.raises(ValueError, match=r"no series has 7 rows with 2 numbers"):
        Windows([Series.of(x)], 7)


def test_a_batch_of_windows():
    one = Series.of(torch.tensor([[1.0, NAN, 3.0, 4.0]]), torch.arange(4.0)[None], static=torch.tensor([7.0]))
    windows = Windows([one], 3, least=1)
    x0, cond = windows.batch([1, 0], Seeds(range(2)))
    assert x0.dtype == torch.float32
    assert x0.tolist() == [[[0.0, 3.0, 4.0]], [[1.0, 0.0, 3.0]]]
    assert cond["valid"].tolist() == [[[0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0]]]
    assert cond["time"].tolist() == [[0.0, 1.0, 2.0]] * 2
    assert cond["covariates"].tolist() == [[[1.0, 2.0, 3.0]], [[0.0, 1.0, 2.0]]]
    assert cond["static"].tolist() == [[7.0]] * 2
    bare = stacked([Series.of(torch.zeros(1, 3))])[1]
    assert set(bare) == {"valid", "time"}


# Real sets


def test_demand_and_temperatures(tmp_path):
    path = tmp_path / "pmdarima/datasets/taylor.py"
    path.parent.mkdir(parents=True)
    path.write_text("import nothing_that_exists\nx = [1]\ny = np.array([3., 4, 5,\n 6])\n")
    demand = series_sets.demand(tmp_path)
    assert demand.values.tolist() == [[3.0, 4.0, 5.0, 6.0]]
    assert demand.time.tolist() == [0.0, 1.0, 2.0, 3.0]
    data = tmp_path / "vega_datasets/_data"
    data.mkdir(parents=True)
    (data / "seattle-temps.csv").write_text("date,temp\n2010/01/01 00:00,1\n2010/01/01 02:00,3\n")
    (data / "sf-temps.csv").write_text("temp,date\n5,2010/01/01 00:00:00\n7,2010/01/01 02:00:00\n")
    both = series_sets.temperatures(tmp_path).values.numpy()
    assert np.array_equal(both, [[1, NAN, 3], [5, NAN, 7]], equal_nan=True)


def test_co2_and_motions(tmp_path):
    path = tmp_path / "statsmodels/datasets/co2/co2.csv"
    path.parent.mkdir(parents=True)
    path.write_text("date,co2\n19580329,316.1\n19580405,\n19580412,317.5\n")
    co2 = series_sets.co2(tmp_path)
    assert np.array_equal(co2.values.numpy(), [[316.1, NAN, 317.5]], equal_nan=True)
    folder = tmp_path / "aeon/datasets/data/BasicMotions"
    folder.mkdir(parents=True)
    (folder / "BasicMotions_TRAIN.ts").write_text("#x\n@data\n1,2:3,4:Walking\n\n5,6:7,8:Resting\n")
    found = series_sets.motions(tmp_path)
    assert [one.values.tolist() for one in found] == [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    with pytest.raises(FileNotFoundError, match=r"BasicMotions_TEST.ts is not there: `pip download --no-deps aeon`"):
        series_sets.motions(tmp_path, train=False)


def test_winds(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"apt-get download ferret-datasets"):
        series_sets.winds(tmp_path)
    io = pytest.importorskip("scipy.io", reason="scipy of the extra baselines")
    path = tmp_path / series_sets.WINDS
    path.parent.mkdir(parents=True)
    values = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
    with io.netcdf_file(path, "w") as file:
        for name, length in (("t", 3), ("y", 2), ("x", 2)):
            file.createDimension(name, length)
        for name, sign in (("UWND", 1), ("VWND", -1)):
            made = file.createVariable(name, "f", ("t", "y", "x"))
            made[:] = sign * values
            made[1, 0, 1] = -99.9
    found = series_sets.winds(tmp_path)
    assert [one.values.tolist() for one in found] == [
        [[float(k + 4 * m) for m in range(3)], [-float(k + 4 * m) for m in range(3)]] for k in (0, 2, 3)
    ]
    assert len(series_sets.winds(tmp_path, 2)) == 2
    assert series_sets.monthly("1980-12", 3).words() == ["1980-12", "1981-01", "1981-02"]


def test_a_csv_file_becomes_series(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("day;load\n01.02.2020;1,5\n02.02.2020;\n03.02.2020;2,5\n")
    chosen = choose(read_csv(path), time="day", horizon=1)
    assert chosen.stamps.words()[-1] == "04.02.2020"
    assert np.array_equal(chosen.series.values.numpy(), [[1.5, NAN, 2.5, NAN]], equal_nan=True)
