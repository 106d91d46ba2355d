"""Times of rows: every style, zones and daylight saving, months, continuation; checked against the calendar."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from sfumato.data.stamps import counted, duration, looks_like_stamp, numbered, parse

HOUR = 3600 * 1_000_000
DAY = 24 * HOUR


def utc(*parts):
    return (datetime(*parts) - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("words", "step"),
    [
        (["2020-02-28", "2020-02-29", "2020-03-01"], DAY),
        (["20200228", "20200229", "20200301"], DAY),
        (["28.02.2020", "29.02.2020", "01.03.2020"], DAY),
        (["02/28/2020", "02/29/2020", "03/01/2020"], DAY),
        (["28/02/2020", "29/02/2020", "01/03/2020"], DAY),
        (["2020/02/28 00:30", "2020/02/28 01:00", "2020/02/28 01:30"], HOUR // 2),
        (["2020-02-28T23:00:00", "2020-02-29T00:00:00", "2020-02-29T01:00:00"], HOUR),
        (["2020-02-28T23:00:00Z", "2020-02-29T00:00:00Z", "2020-02-29T01:00:00Z"], HOUR),
        (["2020-02-28 23:00+05:30", "2020-02-29 00:00+05:30", "2020-02-29 01:00+05:30"], HOUR),
        (["2020-02-28 23:00 -0300", "2020-02-29 00:00 -0300", "2020-02-29 01:00 -0300"], HOUR),
        (["2020-01-01 00:00:00.000000", "2020-01-01 00:00:00.250000", "2020-01-01 00:00:00.500000"], 250_000),
    ],
)
def test_each_style_is_read_continued_and_written_back(words, step):
    stamps = parse(words[:2], "t")
    assert stamps.step == step
    assert stamps.extended(1).words() == words
    assert stamps.extended(3).index.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert stamps.even


def test_offsets_are_taken_off():
    stamps = parse(["2020-01-01 01:00+01:00", "2020-01-01 01:00+00:00"], "t")
    assert stamps.utc.tolist() == [utc(2020, 1, 1), utc(2020, 1, 1, 1)]
    assert stamps.wall.tolist() == [utc(2020, 1, 1, 1)] * 2
    later = stamps.extended(1)
    assert later.words()[-1] == "2020-01-01 02:00+00:00"
    assert later.utc[-1] == utc(2020, 1, 1, 2)


def test_months_have_a_step_of_their_own():
    ends = parse(["2019-11-30", "2019-12-31", "2020-01-31"], "t")
    assert (ends.step, ends.months, ends.even) == (1.0, True, True)
    assert ends.extended(3).words()[3:] == ["2020-02-29", "2020-03-31", "2020-04-30"]
    days = parse(["2019-10-30 12:00", "2019-12-30 12:00"], "t")
    assert (days.step, days.months) == (2.0, True)
    assert days.extended(2).words()[2:] == ["2020-02-29 12:00", "2020-04-30 12:00"]
    plain = parse(["2020-01", "2020-02", "2020-04"], "t")
    assert plain.index.tolist() == [0.0, 1.0, 3.0]
    assert not plain.even
    assert parse(["2019-11", "2019-12"], "t").extended(2).words()[2:] == ["2020-01", "2020-02"]
    weeks = parse(["2020-01-01", "2020-01-29", "2020-02-26"], "t")
    assert (weeks.step, weeks.months) == (28 * DAY, False)


def test_gaps_keep_the_median_step():
    stamps = parse(["2020-01-01", "2020-01-02", "2020-01-05", "2020-01-06"], "t")
    assert stamps.step == DAY
    assert stamps.index.tolist() == [0.0, 1.0, 4.0, 5.0]
    assert not stamps.even


def test_spring_and_autumn_of_a_zone():
    """The hours of a day are counted in UTC: 23 in spring, 25 in autumn, as the clocks of London had them."""
    spring = parse(["2020-03-29 00:00", "2020-03-29 02:00", "2020-03-29 03:00"], "t", "Europe/London")
    assert spring.even
    assert spring.step == HOUR
    assert parse(["2020-03-28 22:00", "2020-03-28 23:00"], "t", "Europe/London").extended(3).words()[2:] == [
        "2020-03-29 00:00",
        "2020-03-29 02:00",
        "2020-03-29 03:00",
    ]
    words = ["2020-10-25 00:30", "2020-10-25 01:30", "2020-10-25 01:30", "2020-10-25 02:30"]
    autumn = parse(words, "t", "Europe/London")
    assert autumn.even
    assert autumn.utc.tolist() == [utc(2020, 10, 24, 23, 30) + k * HOUR for k in range(4)]
    with pytest.raises(ValueError, match=r"'2020-10-25 01:30' twice, in rows 2 and 3.*name the --zone"):
        parse(words, "t")
    with pytest.raises(ValueError, match="goes back in row 4"):
        parse([*words[:2], "2020-10-25 01:45", "2020-10-25 01:30"], "t")
    with pytest.raises(ValueError, match="'2020-03-29 01:30' in row 1, a time that the clocks of Europe/London leapt"):
        parse(["2020-03-29 01:30"], "t", "Europe/London")


def test_days_of_a_zone_are_days():
    stamps = parse(["2020-03-27", "2020-03-28", "2020-03-29", "2020-03-30"], "t", "Europe/Berlin")
    assert stamps.even
    assert stamps.step == DAY
    assert np.diff(stamps.utc).tolist() == [DAY, DAY, 23 * HOUR]
    more = parse(["2020-03-27", "2020-03-28"], "t", "Europe/Berlin").extended(2)
    assert more.words()[2:] == ["2020-03-29", "2020-03-30"]
    assert more.utc.tolist() == stamps.utc.tolist()


def test_a_zone_moves_the_clocks_of_stamps_with_offsets():
    stamps = parse(["2020-03-29 00:00+00:00", "2020-03-29 01:00+00:00"], "t", "Europe/Berlin")
    assert stamps.wall.tolist() == [utc(2020, 3, 29, 1), utc(2020, 3, 29, 3)]
    assert stamps.even


def test_utc_agrees_with_the_standard_library_all_year():
    zone, moment = ZoneInfo("America/New_York"), datetime(2021, 1, 1, tzinfo=UTC)
    moments = [moment + timedelta(hours=7 * k) for k in range(1200)]
    words = [m.astimezone(zone).strftime("%Y-%m-%d %H:%M") for m in moments]
    stamps = parse(words, "t", "America/New_York")
    assert stamps.even
    assert stamps.extended(30).words()[:1200] == words


def test_numbers_are_times_too():
    years = numbered(np.array([1990, 1995, 2000]), "t")
    assert years.step == 5
    assert years.extended(2).words() == ["1990", "1995", "2000", "2005", "2010"]
    assert numbered(np.array([0.0, 0.5]), "t").extended(1).words() == ["0", "0.5", "1"]
    assert numbered(np.array([0.25, 0.5]), "t").words() == ["0.25", "0.5"]
    assert counted(3).index.tolist() == [0.0, 1.0, 2.0]
    assert counted(1).step == 1.0
    assert years.calendar().shape == (0, 3)
    assert years.seasons() == ()
    with pytest.raises(ValueError, match="t has no time in row 2"):
        numbered(np.array([1.0, np.nan]), "t")
    with pytest.raises(ValueError, match="'1' twice, in rows 1 and 2"):
        numbered(np.array([1, 1]), "t")


def test_calendar_has_the_period_of_day_and_week():
    start = datetime(2020, 1, 6)  # a Monday
    words = [(start + timedelta(hours=k)).strftime("%Y-%m-%d %H:%M") for k in range(24 * 21)]
    waves = parse(words, "t").calendar()
    assert waves.shape == (12, 24 * 21)  # three harmonics of a day, three of a week; two years are not there
    assert np.allclose(waves[:6, :24], waves[:6, 24:48])
    assert np.allclose(waves[6:, : 24 * 7], waves[6:, 24 * 7 : 24 * 14])
    assert np.allclose(waves[0, :24], np.sin(2 * np.pi * np.arange(24) / 24))
    assert np.allclose(waves[1, :24], np.cos(2 * np.pi * np.arange(24) / 24))
    assert np.allclose(waves[2, :24], np.sin(4 * np.pi * np.arange(24) / 24))
    assert np.allclose(waves[6:8, 0], [0.0, 1.0])  # the week begins on Monday
    months = parse([f"{2000 + k // 12}-{k % 12 + 1:02}" for k in range(48)], "t")
    assert months.calendar().shape == (4, 48)
    assert months.seasons() == (12,)


def test_calendar_shows_only_what_step_and_span_resolve():
    def waves(count, **step):
        words = [(datetime(2020, 1, 6) + k * timedelta(**step)).strftime("%Y-%m-%d %H:%M") for k in range(count)]
        return parse(words, "t").calendar().shape[0]

    assert waves(24, hours=1) == 0  # one day
    assert waves(49, hours=1) == 6
    assert waves(15, days=1) == 6  # the week; a day is one step
    assert waves(400, hours=7) == 6  # a day of 3.4 steps is left out
    assert waves(732, days=1) == 10


def test_seasons_are_whole_numbers_of_steps():
    def seasons(count, **step):
        words = [(datetime(2020, 1, 6) + k * timedelta(**step)).strftime("%Y-%m-%d %H:%M") for k in range(count)]
        return parse(words, "t").seasons()

    assert seasons(700, minutes=30) == (48, 336)
    assert seasons(96, minutes=30) == (48,)
    assert seasons(95, minutes=30) == ()
    assert seasons(60, days=1) == (7,)
    assert seasons(731, days=1) == (7, 365)
    assert seasons(105, days=7) == (52,)
    assert seasons(100, hours=7) == (24,)  # a week; 24 / 7 steps of a day are not whole
    assert parse([f"{2000 + k // 4}-{3 * (k % 4) + 1:02}" for k in range(9)], "t").seasons() == (4,)


def test_what_a_stamp_looks_like():
    assert all(map(looks_like_stamp, ("2020-01-01", "2020/1/1 10:00", "1.2.2020", "19580329", "2020-01", "01/02/2020")))
    assert not any(map(looks_like_stamp, ("1.5", "1-2", "20201301", "12345678", "x", "", "2020-13-01", "1990")))


def test_durations():
    assert duration("15min") == (15 * 60 * 1_000_000, False)
    assert duration(" 2 h ") == (2 * HOUR, False)
    assert duration("7d") == duration("1w") == (7 * DAY, False)
    assert duration("30s") == (30_000_000, False)
    assert duration("3month") == duration("3months") == (3, True)
    for text in ("h", "0h", "1.5h", "1 year", "-1h", ""):
        with pytest.raises(ValueError, match="a step is a whole number and"):
            duration(text)


def test_errors_name_the_row():
    with pytest.raises(ValueError, match=r"t begins with 'yesterday', which is no time that is known"):
        parse(["yesterday"], "t")
    with pytest.raises(ValueError, match=r"t holds 'soon' in row 2, which is no time as those before"):
        parse(["2020-01-01", "soon"], "t")
    with pytest.raises(ValueError, match=r"t holds '' in row 2"):
        parse(["2020-01-01", ""], "t")
    with pytest.raises(ValueError, match=r"day or month first"):
        parse(["01/02/2020", "02/02/2020"], "t")
    assert parse(["01/02/2020", "02/02/2020"], "t", style="%d/%m/%Y").step == DAY
    with pytest.raises(ValueError, match=r"'x' in row 1, which is no time in the style '%Y'"):
        parse(["x"], "t", style="%Y")
    with pytest.raises(ValueError, match="goes back in row 2, from '2020-01-02' to '2020-01-01': sort the rows"):
        parse(["2020-01-02", "2020-01-01"], "t")
    with pytest.raises(ValueError, match="no time zone 'Mars/Base'"):
        parse(["2020-01-02"], "t", "Mars/Base")
