"""Times of the rows of a table: read, placed on one clock, continued into the future and written in the same style.

Stamps with an offset, or of a named zone, are compared in UTC, so that a day of 23 or 25 hours is what it was; those
without are taken as they stand.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y%m%d", "%Y-%m", "%Y/%m")
CLOCKS = ("", "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H")
STYLES = tuple(
    f"{date}{gap}{clock}{offset}"
    for date, clock in itertools.product(DATES, CLOCKS)
    for gap in (("",) if not clock else ("T", " "))
    for offset in (("",) if not clock else ("", "%z", " %z"))
)
SHAPE = re.compile(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([T ].*)?|(19|20)\d{6}")
SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
CYCLES = (DAY, 7 * DAY, 365.2425 * DAY)
UNITS = {"s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": DAY, "w": 7 * DAY}
MOST = 10_000_000  # rows of a grid
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, eq=False)
class Stamps:
    """The times of the rows, strictly ascending.

    Attributes:
        utc: microseconds since 1970, (rows,); the numbers themselves where times are numbers.
        wall: what the clocks show, microseconds since 1970, (rows,).
        step: from one row to the next, in the unit of `utc`; of months where `months`. The median where uneven.
        months: the step is of calendar months.
        style: strptime's format; "" where times are numbers.
        zone: whose clocks the stamps show: an IANA name, or "" for those of the stamps themselves.
        suffix: "Z" or ":" where offsets are written Z or +02:00 rather than +0200.
    """

    utc: NDArray
    wall: NDArray
    step: float
    months: bool = False
    style: str = ""
    zone: str = ""
    suffix: str = ""

    def __len__(self) -> int:
        return len(self.utc)

    @cached_property
    def index(self) -> NDArray[np.float64]:
        """Steps since the first row, (rows,): 0, 1, 2, ... where they are even."""
        if self.months:
            month = _months(self.wall)
            return (month - month[0]) / self.step
        clock = self._clock
        return (clock - clock[0]) / self.step

    @property
    def even(self) -> bool:
        """Whether each row is one step after the last."""
        return bool(np.allclose(np.diff(self.index), 1.0, rtol=0, atol=1e-6))

    @property
    def _clock(self) -> NDArray:
        """What steps are counted on: days by the clocks on the wall, hours by UTC."""
        return self.wall if self.style and self.step >= DAY else self.utc

    def extended(self, count: int) -> Stamps:
        """These stamps and `count` more, a step apart."""
        if not self.style:
            more = self.utc[-1] + self.step * np.arange(1, count + 1)
            return _with(self, np.concatenate([self.utc, more.astype(self.utc.dtype)]), None)
        if count == 0:
            return self
        if self.months or self.step >= DAY:
            wall = self.wall[-1:]
            if self.months:
                last = _at(int(wall[0]))
                more = [_micros(_month_later(last, int(self.step) * k)) for k in range(1, count + 1)]
            else:
                more = [int(wall[0] + self.step * k) for k in range(1, count + 1)]
            walls = np.concatenate([self.wall, np.array(more, np.int64)])
            utc = [_to_utc(int(w), self.zone) for w in more] if self.zone else [w + self._offset for w in more]
            return _with(self, np.concatenate([self.utc, np.array(utc, np.int64)]), walls)
        later = [int(self.utc[-1] + self.step * k) for k in range(1, count + 1)]
        shown = [_to_wall(u, self.zone) for u in later] if self.zone else [u - self._offset for u in later]
        return _with(
            self,
            np.concatenate([self.utc, np.array(later, np.int64)]),
            np.concatenate([self.wall, np.array(shown, np.int64)]),
        )

    def part(self, start: int, stop: int) -> Stamps:
        """Rows start .. stop - 1; the step stays."""
        return _with(self, self.utc[start:stop], self.wall[start:stop])

    def grid(self, step: int, months: bool) -> tuple[Stamps, NDArray[np.int64]]:
        """An even grid that holds these times, and the place of each in it.

        It begins at the step's own beat: whole hours, days, weeks from Monday, months from their first day.

        Raises:
            ValueError: if the grid would have over ten million rows.
        """
        if months:
            month = _months(self.wall)
            place = (month - month[0]) // step
            first = _micros(_at(int(self.wall[0])).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
        else:
            clock = self.wall if step >= DAY else self.utc
            phase = 4 * DAY if step % (7 * DAY) == 0 else 0  # 1970 began on a Thursday
            first = int(clock[0] - (clock[0] - phase) % step)
            place = (clock - first) // step
        if place[-1] >= MOST:
            raise ValueError(f"a grid of that step has {place[-1] + 1} rows for {len(self)}: take a longer step.")
        walls = months or step >= DAY
        utc = (_to_utc(first, self.zone) if self.zone else first + int(self.utc[0] - self.wall[0])) if walls else first
        wall = first if walls else (_to_wall(utc, self.zone) if self.zone else utc - int(self.utc[0] - self.wall[0]))
        start = Stamps(
            np.array([utc]),
            np.array([wall]),
            float(step),
            months,
            _fine(self.style, DAY if months else step),
            self.zone,
            self.suffix,
        )
        return start.extended(int(place[-1])), place.astype(np.int64)

    @property
    def _offset(self) -> int:
        return int(self.utc[-1] - self.wall[-1])

    def words(self) -> list[str]:
        """The stamps as text, in the style they were read in."""
        if not self.style:
            return [str(int(u)) if float(u).is_integer() else repr(float(u)) for u in self.utc]
        found = []
        for utc, wall in zip(self.utc.tolist(), self.wall.tolist(), strict=True):
            moment = _at(wall).replace(tzinfo=timezone(timedelta(microseconds=wall - utc)))
            text = moment.strftime(self.style)
            if "%z" in self.style and self.suffix:
                text = f"{text[:-5]}Z" if self.suffix == "Z" else f"{text[:-2]}:{text[-2:]}"
            found.append(text)
        return found

    def calendar(self, most: int = 1) -> NDArray[np.float64]:
        """Where the rows lie in the day, week and year, as sines and cosines of the clocks' time, (F, rows).

        Only the cycles that the step resolves (at least 4 steps) and the table shows twice; none where times are
        numbers.

        Args:
            most: harmonics of a day and of a year, at most; a week has 7 times as many, so that each day may differ.
        """
        waves = [f(k * phase) for _, k, phase in self._harmonics(most) for f in (np.sin, np.cos)]
        return np.array(waves) if waves else np.zeros((0, len(self)))

    def orders(self, most: int = 1) -> NDArray[np.float64]:
        """How fine each row of `calendar` is, (F,): k for the k-th harmonic of a day, a week or a year."""
        return np.array([order for order, _, _ in self._harmonics(most) for _ in range(2)], np.float64)

    def _harmonics(self, most: int) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
        """(order, k, phase of the cycle) of each wave; a day's harmonics among those of a week have their own order."""
        if not self.style:
            return
        step = self.step * (365.2425 / 12 * DAY if self.months else 1.0)
        span = float(self.wall[-1] - self.wall[0]) + step
        shown = [cycle for cycle in CYCLES if 4 * step <= cycle and 2 * cycle <= 1.001 * span]
        for cycle in shown:
            times = 7 if cycle == 7 * DAY else 1
            if cycle != DAY or 7 * DAY not in shown:  # a day is the seventh harmonic of a week
                phase = 2 * math.pi * ((self.wall + 3 * DAY) % cycle) / cycle  # 1970 began on a Thursday
                for k in range(1, min(times * most, int(cycle / step) // 2) + 1):
                    yield k // times if k % times == 0 else k, k, phase

    def seasons(self) -> tuple[int, ...]:
        """Steps in a day, a week and a year, where the table shows them twice; a year of days is 365."""
        if not self.style:
            return ()
        cycles = [12 / self.step] if self.months else [cycle / self.step for cycle in CYCLES]
        near = [(round(cycle), cycle) for cycle in cycles]
        return tuple(n for n, cycle in near if n > 1 and abs(cycle - n) < 0.005 * n and len(self) >= 2 * n)


def _with(stamps: Stamps, utc: NDArray, wall: NDArray | None) -> Stamps:
    wall = utc if wall is None else wall
    return Stamps(utc, wall, stamps.step, stamps.months, stamps.style, stamps.zone, stamps.suffix)


def counted(rows: int) -> Stamps:
    """0, 1, 2, ...: the times of a table without any."""
    return numbered(np.arange(rows), "the row numbers")


def numbered(values: NDArray, what: str) -> Stamps:
    """Times that are numbers (years, seconds, positions).

    Raises:
        ValueError: if one is missing, or they do not ascend.
    """
    missing = np.flatnonzero(np.isnan(values.astype(np.float64)))
    if len(missing):
        raise ValueError(f"{what} has no time in row {missing[0] + 1}: every row needs one.")
    whole = np.all(values == np.floor(values))
    utc = values.astype(np.int64 if whole else np.float64)
    _check_order(utc, [str(v) for v in values.tolist()], what, "")
    return Stamps(utc, utc, _typical(utc) if len(utc) > 1 else 1.0)


def looks_like_stamp(word: str) -> bool:
    """Whether a word may be a date, as far as its shape tells; a whole number of 8 digits from 1900 may."""
    return SHAPE.fullmatch(word) is not None and any(_parsed(word, style) is not None for style in STYLES)


def parse(words: Sequence[str], what: str, zone: str = "", style: str = "") -> Stamps:
    """Stamps from text.

    Args:
        words: one for each row.
        what: what to call them in an error.
        zone: IANA name of the zone whose clocks they show, where they carry no offset. Of the hour that comes twice
            in autumn, the first is the earlier.
        style: strptime's format; found out if not given.

    Raises:
        ValueError: if one cannot be read, has no place in the zone, comes twice or goes back.
    """
    style = style or _style(words, what)
    moments = []
    for i, word in enumerate(words):
        moment = _parsed(word, style)
        if moment is None:
            raise ValueError(f"{what} holds {word[:40]!r} in row {i + 1}, which is no time in the style {style!r}.")
        moments.append(moment)
    walls = np.array([_micros(moment.replace(tzinfo=None)) for moment in moments], np.int64)
    aware = moments[0].tzinfo is not None
    suffix = ("Z" if words[0].endswith(("Z", "z")) else ":" if words[0][-3:-2] == ":" else "") if aware else ""
    if zone:
        _zone(zone)
    if aware:
        utc = np.array([_micros(moment.astimezone(UTC).replace(tzinfo=None)) for moment in moments], np.int64)
        if zone:
            walls = np.array([_to_wall(int(u), zone) for u in utc], np.int64)
    elif zone:
        utc = _localized(walls, words, what, zone)
    else:
        utc = walls
    _check_order(utc, words, what, "" if zone or aware else " (where clocks were set back, name the --zone)")
    step, months = _step(utc, walls)
    return Stamps(utc, walls, step, months, style, zone, suffix)


def _fine(style: str, step: int) -> str:
    """A style that shows what a step needs: with a clock where the style has none and the step is below a day."""
    return style if "%H" in style or step >= DAY else f"{style} %H:%M:%S"


def duration(text: str) -> tuple[int, bool]:
    """(step, months) of "15min", "1h", "7d", "1w", "1month": microseconds, or months.

    Raises:
        ValueError: for any other text.
    """
    found = re.fullmatch(r"(\d+)\s*(s|min|h|d|w|months?)", text.strip())
    if found is None or int(found.group(1)) < 1:
        raise ValueError(f"a step is a whole number and s, min, h, d, w or month (15min, 1h, 7d), got {text!r}.")
    count, unit = int(found.group(1)), found.group(2)
    return (count, True) if unit.startswith("month") else (count * UNITS[unit], False)


def _style(words: Sequence[str], what: str) -> str:
    """The one style that reads all words.

    Raises:
        ValueError: if none does, with the word that fails, or several do and differ.
    """
    left = [style for style in STYLES if _parsed(words[0], style) is not None] if words else []
    for i, word in enumerate(words[1:], 1):
        still = [style for style in left if _parsed(word, style) is not None]
        if not still and left:
            raise ValueError(f"{what} holds {word[:40]!r} in row {i + 1}, which is no time as those before it are.")
        left = still
    if not left:
        raise ValueError(
            f"{what} begins with {words[0][:40]!r}, which is no time that is known: name its style "
            "(strptime's, such as '%d.%m.%Y %H:%M')."
        )
    if {"%d/%m/%Y", "%m/%d/%Y"} <= {style[:8] for style in left}:
        raise ValueError(f"{what} begins with {words[0]!r}: day or month first? Name the style ('%d/%m/%Y').")
    return left[0]


def _parsed(word: str, style: str) -> datetime | None:
    try:
        return datetime.strptime(word, style)
    except ValueError:
        return None


def _check_order(utc: NDArray, words: Sequence[str], what: str, hint: str) -> None:
    change = np.diff(utc)
    wrong = np.flatnonzero(change <= 0)
    if len(wrong):
        i = int(wrong[0]) + 1
        if change[i - 1] == 0:
            raise ValueError(f"{what} has {words[i]!r} twice, in rows {i} and {i + 1}: keep one of them{hint}.")
        raise ValueError(
            f"{what} goes back in row {i + 1}, from {words[i - 1]!r} to {words[i]!r}: sort the rows{hint}."
        )


def _step(utc: NDArray, wall: NDArray) -> tuple[float, bool]:
    """(typical step, whether it is of months): months where all rows have the same day, or the last, of theirs."""
    if len(utc) < 2:
        return float(DAY), False
    step = _typical(utc)
    if step >= 28 * DAY:
        days = [_at(int(w)) for w in wall]
        last = all((day + timedelta(days=1)).day == 1 for day in days)
        if last or len({(day.day, day.time()) for day in days}) == 1:
            return _typical(_months(wall)), True
    if step >= DAY - 2 * UNITS["h"]:
        return _typical(wall), False
    return step, False


def _typical(clock: NDArray) -> float:
    """The median step; of two in the middle the lesser, so that it is one that occurs."""
    return float(np.quantile(np.diff(clock), 0.5, method="lower"))


def _localized(walls: NDArray, words: Sequence[str], what: str, zone: str) -> NDArray:
    """UTC of what a zone's clocks show."""
    found: list[int] = []
    for i, wall in enumerate(walls.tolist()):
        utc = _to_utc(wall, zone)
        if _to_wall(utc, zone) != wall:
            raise ValueError(
                f"{what} holds {words[i]!r} in row {i + 1}, a time that the clocks of {zone} leapt over: the zone is "
                "another, or the table keeps one offset all year (leave the zone out)."
            )
        if found and utc <= found[-1]:
            utc = _to_utc(wall, zone, fold=1)
        found.append(utc)
    return np.array(found, np.int64)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}: IANA names such as Europe/London are known.") from None


def _to_utc(wall: int, zone: str, fold: int = 0) -> int:
    return _micros(_at(wall).replace(tzinfo=_zone(zone), fold=fold).astimezone(UTC).replace(tzinfo=None))


def _to_wall(utc: int, zone: str) -> int:
    return _micros(_at(utc).replace(tzinfo=UTC).astimezone(_zone(zone)).replace(tzinfo=None))


def _at(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _months(wall: NDArray) -> NDArray[np.int64]:
    """Calendar months since 1970."""
    return wall.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _month_later(moment: datetime, count: int) -> datetime:
    """The same day `count` months later; the last day of the month where a month is too short, or it was the last."""
    years, month = divmod(moment.year * 12 + moment.month - 1 + count, 12)
    after = datetime(years + (month == 11), (month + 1) % 12 + 1, 1)
    last = (after - timedelta(days=1)).day
    ends = (moment + timedelta(days=1)).day == 1
    return moment.replace(year=years, month=month + 1, day=last if ends else min(moment.day, last))
