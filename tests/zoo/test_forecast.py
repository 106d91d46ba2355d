"""Forecasts and fillings of tables whose law is known, and what a Forecast says of its samples."""

import math

import numpy as np
import pytest
import torch

from sfumato import Noise, Seeds
from sfumato.data.series import Series, choose
from sfumato.data.tables import Columns
from sfumato.zoo.forecast import Forecast
from sfumato.zoo.series_model import channels, late, learn, split, strategy, suggested
from sfumato.zoo.tables import forecast, impute

NAN = float("nan")


def autoregression(n, rho=0.9, seed=0):
    eps = math.sqrt(1 - rho**2) * Noise(seed).normal(torch.empty(n, dtype=torch.float64))
    x = eps.clone()
    x[0] /= math.sqrt(1 - rho**2)
    for i in range(1, n):
        x[i] = rho * x[i - 1] + eps[i]
    return x


def hourly(n):
    from datetime import datetime, timedelta

    return [(datetime(2020, 1, 6) + timedelta(hours=k)).strftime("%Y-%m-%d %H:%M") for k in range(n)]


@pytest.fixture(scope="module")
def walk():
    return autoregression(4000).numpy()


def test_the_forecast_of_an_autoregression(walk):
    """rho^h x with variance 1 - rho^(2 h), and errors that go together along the horizon."""
    found = forecast(100 + 10 * walk, 6, samples=1500, minutes=0)
    h = np.arange(1, 7)
    mean = 100 + 10 * 0.9**h * walk[-1]
    std = 10 * np.sqrt(1 - 0.81**h)
    assert np.abs(found.mean[:, 0].numpy() - mean).max() < 2.0
    assert np.abs(found.samples[:, :, 0].std(0).numpy() / std - 1).max() < 0.15
    together = np.corrcoef(found.samples[:, [1, 5], 0].T.numpy())[0, 1]
    assert abs(together - 0.9**4 * np.sqrt((1 - 0.81**2) / (1 - 0.81**6))) < 0.12
    assert found.samples.shape == (1500, 6, 1)
    assert not found.known.any()
    assert torch.equal(found.past[:, 0], torch.from_numpy(100 + 10 * walk))
    assert found.stamps.words() == [str(4000 + k) for k in range(6)]
    assert found.about["steps"] == 0


def test_the_filling_of_a_gap_of_an_autoregression(walk):
    """A gap of one: mean (x_- + x_+) rho / (1 + rho^2), variance (1 - rho^2) / (1 + rho^2)."""
    holes = walk.copy()
    holes[[1000, 2003]] = NAN
    found = impute({"x": holes}, samples=1500, minutes=0)
    for at in (1000, 2003):
        mean = (walk[at - 1] + walk[at + 1]) * 0.9 / 1.81
        assert abs(float(found.mean[at, 0]) - mean) < 0.15
        assert abs(float(found.samples[:, at, 0].std()) / math.sqrt(0.19 / 1.81) - 1) < 0.15
    known = ~np.isnan(holes)
    assert np.array_equal(found.samples[7, known, 0].numpy(), holes[known])
    assert np.array_equal(found.known[:, 0].numpy(), known)
    filled = found.filled()
    assert np.array_equal(filled.numbers("x")[known], holes[known])
    assert filled.numbers("x")[1000] == float(found.median[1000, 0])
    assert len(found.past) == 0


def test_gaps_are_filled_through_windows_of_their_own(walk):
    """Windows overlap: a number far from both ends of the table has as much on either side."""
    holes = walk[:400].copy()
    holes[::7] = NAN
    found = impute({"x": holes}, samples=200, minutes=0)
    error = np.abs(found.median[:, 0].numpy() - walk[:400])
    assert error[~np.isnan(holes)].max() == 0
    assert error[::7].mean() < 1.2 * math.sqrt(2 / math.pi * 0.19 / 1.81)
    again = impute({"x": holes}, samples=20, minutes=0)
    assert torch.allclose(again.samples, found.samples[:20], atol=1e-4)  # sample k does not depend on how many


def test_a_season_and_a_level_in_other_units():
    stamps = hourly(24 * 21)
    wave = np.sin(2 * np.pi * np.arange(24 * 21) / 24)
    x = 1e4 + 100 * wave + Noise(0).normal(torch.empty(24 * 21)).numpy()
    found = forecast(
        {"t": stamps[: 24 * 20], "x": x[: 24 * 20], "y": 0.001 * x[: 24 * 20]}, 24, time="t", minutes=0, samples=300
    )
    assert np.abs(found.mean[:, 0].numpy() - 1e4 - 100 * wave[-24:]).max() < 2.0
    assert 0.7 < float(found.samples[:, :, 0].std(0).mean()) < 1.5
    one, two = found.samples[:, :, 0] - found.mean[:, 0], 1000 * (found.samples[:, :, 1] - found.mean[:, 1])
    assert float((one - two).std() / one.std()) < 0.7  # the same column in other units goes together with it
    assert found.stamps.words() == stamps[24 * 20 :]
    numbered = forecast(x[: 24 * 20], 24, season=24, minutes=0, samples=300)
    assert np.abs(numbered.mean[:, 0].numpy() - 1e4 - 100 * wave[-24:]).max() < 2.0


def test_known_columns_drive_the_forecast():
    known = np.repeat([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0], 10)
    x = 5 * known + 0.01 * Noise(1).normal(torch.empty(80)).numpy()
    x[70:] = NAN
    known[70:75] = 1.0
    found = forecast({"x": x, "k": known}, 10, known=["k"], minutes=0, samples=50)
    assert np.abs(found.mean[:5, 0].numpy() - 5).max() < 0.6
    assert np.abs(found.mean[5:, 0].numpy()).max() < 0.6


def test_constant_and_full_columns():
    x = autoregression(60).numpy()
    x[[5, 9]] = NAN
    c = np.full(60, 3.0)
    c[4] = NAN
    found = impute({"c": c, "x": x}, minutes=0, samples=20)
    assert (found.samples[:, 4, 0] == 3.0).all()
    assert forecast({"c": np.full(30, 7.0)}, 4, minutes=0, samples=3).samples.unique().tolist() == [7.0]
    assert impute({"c": np.full(9, 7.0)}, minutes=0, samples=3).about == {}
    assert torch.equal(impute({"x": np.arange(9.0)}, samples=2).samples[1, :, 0], torch.arange(9.0).double())


def test_many_columns_are_modelled_one_by_one():
    x = np.stack([autoregression(120, seed=k).numpy() for k in range(14)], 1)
    found = forecast(x, 3, minutes=0, samples=20)
    assert found.samples.shape == (20, 3, 14)
    assert found.targets[-1] == "c14"
    ends = found.mean[0].numpy()
    assert np.corrcoef(ends, x[-1])[0, 1] > 0.9


def test_training_repeats_and_is_dropped_where_it_does_not_help():
    x = autoregression(300).numpy()
    ticks = []
    one = forecast(x, 5, steps=6, samples=10, seed=3, progress=lambda done, total: ticks.append((done, total)))
    two = forecast(x, 5, steps=6, samples=10, seed=3)
    assert ticks == [(k, 6) for k in range(1, 7)]
    assert torch.equal(one.samples, two.samples)
    assert one.about["steps"] == 6
    assert {"crps", "trials", "law", "network"} <= set(one.about["held_out"])
    other = forecast(x, 5, steps=6, samples=10, seed=4)
    assert not torch.allclose(one.samples, other.samples)


@pytest.mark.slow
def test_a_network_learns_what_is_not_gaussian():
    """Every fourth row begins two rows of +1 or of -1, each as likely: no Gaussian law says so."""
    noise = Noise(0)
    signs = torch.where(noise.uniform(torch.empty(1500)) < 0.5, -1.0, 1.0).double()
    x = torch.stack([torch.zeros(1500).double(), signs, signs, torch.zeros(1500).double()], 1).flatten()
    x = x + 0.05 * noise.normal(x)
    phase = torch.arange(6000) % 4
    covariates = torch.stack([(phase == k).double() for k in range(4)])
    model = learn([Series.of(x[None], covariates)], horizon=3, lengths=[8], steps=600, seed=0)
    assert model.held_out["network"] < 0.95 * model.held_out["law"]
    assert model.denoiser.net is not None


def test_minutes_bound_the_training():
    import time

    began = time.perf_counter()
    model = learn([Series.of(autoregression(200)[None])], horizon=3, minutes=0.01)
    assert model.steps >= 1
    assert time.perf_counter() - began < 30


# How a model is chosen


def test_windows_to_judge_by_are_late():
    one = Series.of(torch.arange(100.0)[None])
    found = late([one], 10, count=5)
    assert len(found) == 5
    assert float(found[0].values[0, 0]) == 100 * 0.8 - 10 + 2
    assert float(found[-1].values[0, -1]) <= 99
    several = late([one.cut(0, 12), one.cut(0, 5)], 10)
    assert [float(w.values[0, 0]) for w in several] == [0.0, 1.0, 2.0]
    with pytest.raises(ValueError, match=r"no held-out series has 200 rows"):
        late([one], 200)
    train, tried = split([one])
    assert (len(train[0]), len(tried[0])) == (80, 100)
    train, tried = split([one] * 12)
    assert (len(train), len(tried)) == (9, 3)


def test_lengths_worth_trying():
    one = Series.of(torch.zeros(1, 1000))
    assert suggested([one], 0) == [96]
    assert suggested([one], 48) == [72, 96, 144, 192, 384]
    assert suggested([Series.of(torch.zeros(1, 40))], 10) == [20]
    assert suggested([Series.of(torch.zeros(10, 1000))], 0) == [80]
    with pytest.raises(ValueError, match=r"shorter than every window"):
        learn([Series.of(torch.zeros(1, 5))], horizon=3, lengths=[9])


def test_whole_channels_are_hidden_but_not_all():
    valid = torch.ones(400, 3, 4, dtype=torch.bool)
    given = channels(valid, Seeds(range(400)))
    whole = given.all(2)
    assert torch.equal(given, whole[:, :, None].expand(-1, -1, 4))
    count = whole.sum(1)
    assert set(count.tolist()) == {1, 2}
    assert 0.35 < float(whole.double().mean()) < 0.65
    holes = valid.clone()
    holes[:, :, 1] = False
    assert not channels(holes, Seeds(range(400)))[:, :, 1].any()


def test_what_is_hidden_in_training():
    one, two = Series.of(torch.zeros(1, 9)), Series.of(torch.tensor([[0.0, NAN], [1.0, 2.0]]))
    assert strategy([one], 2)(torch.ones(1, 1, 5, dtype=torch.bool), Seeds([0])).tolist() == [
        [[True] * 3 + [False] * 2]
    ]
    assert len(strategy([one], 0).strategies) == 2
    assert len(strategy([two], 0).strategies) == 4


# The record


def record(samples, **fields):
    chosen = choose(Columns({"t": ["2020-01-01", "2020-01-02", "2020-01-03"], "a": [1.0, NAN, 3.0]}), time="t")
    known = ~chosen.series.values.isnan().T
    past = torch.zeros(0, 1)
    base = {"known": known, "past": past, "past_stamps": chosen.stamps.part(0, 0), "table": chosen.table}
    return Forecast(samples, ("a",), chosen.stamps, **{**base, **fields})


def test_mean_quantiles_and_intervals():
    samples = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0]).reshape(5, 1, 1).expand(5, 3, 1).double()
    found = record(samples)
    assert found.mean[0, 0] == 4.0
    assert found.median[0, 0] == 3.0
    assert found.quantile(0.25)[0, 0] == 2.0
    low, high = found.interval(0.5)
    assert (float(low[0, 0]), float(high[0, 0])) == (2.0, 4.0)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1.2"):
        found.quantile(1.2)
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"lies between 0 and 1"):
            found.interval(level)
    header, body = found.rows((0.25, 0.5))
    assert header == ["time", "target", "known", "mean", "q0.25", "q0.5"]
    assert body[1] == ["2020-01-02", "a", 0, 4.0, 2.0, 3.0]
    assert body[0][2] == 1
    assert len(body) == 3
    assert found.filled().numbers("a").tolist() == [1.0, 3.0, 3.0]
    with pytest.raises(ValueError, match=r"a forecast fills no table"):
        record(samples, table=None).filled()


def test_frames_and_plots():
    samples = torch.arange(15.0).reshape(5, 3, 1).double()
    pandas = pytest.importorskip("pandas", reason="extra tables: pandas")
    frame = record(samples).to_frame((0.5,))
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["time", "target", "known", "mean", "q0.5"]
    assert frame["q0.5"].tolist() == [6.0, 7.0, 8.0]
    pytest.importorskip("matplotlib", reason="extra plot: matplotlib")
    figure = record(samples).plot()
    assert len(figure.axes) == 1
    lines = figure.axes[0].get_lines()
    assert len(lines) == 1 + 5 + 1 + 1  # what is known, five samples, the median, and the row that is alone
    middle = lines[-2].get_ydata()
    assert np.isnan(middle[0])
    assert middle[1] == 7.0
    stamps = record(samples).stamps
    ahead = record(samples, past=torch.ones(3, 1), past_stamps=stamps, known=torch.zeros(3, 1, dtype=torch.bool))
    assert len(ahead.plot(levels=(0.8,)).axes[0].get_lines()) == 8
    # A row alone has neither line nor band.
    assert lines[-1].get_marker() == "."
    assert (lines[-1].get_xdata().size, lines[-1].get_ydata().tolist()) == (1, [7.0])


def test_errors():
    with pytest.raises(ValueError, match=r"a horizon is at least 1 row, got 0"):
        forecast(np.arange(9.0), 0)
    with pytest.raises(ValueError, match=r"at least 1 sample is drawn, got 0"):
        forecast(np.arange(9.0), 1, samples=0)
