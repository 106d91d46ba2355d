"""Choosing how a table is predicted by predicting its past: what is known is hidden as what is asked for is (ours).

Every choice (scale, length of the window, law) is the one of the least CRPS on windows that were hidden from it, and
the spread and shape of the errors are those that these windows show. Whatever is asked about is not looked at.

1. `trials`: windows of the past, their last rows hidden (a forecast), or what the patterns of the gaps hide. They fall
   into `FOLDS` folds, by time, or by series where there are many; a fold's covariance comes from rows before it, or
   from the other series. Each is scaled by what is known of its series up to it, as it will be when asked.
2. `choose`: the scale first (with a rough law), then the length, the taper, how loose level and waves are, floor and
   degrees of freedom, each by the mean CRPS in units of the channel's spread, under normal errors of the size that the
   windows show; of floors whose scores are within `TIE`, the least. Where they are loose, the level of a window, or its
   calendar's waves, differ from the regression's as by a normal prior (universal kriging: Cressie 1993, section 3.4,
   with a proper prior). A trend is taken where it lowers the CRPS by a tenth: a line that is drawn on errs without
   bound, and a loose level follows what rises.
3. `calibrated`: the errors' scale by channel and their shape, from the quantiles of |z|. Numbers of one window err
   together, so levels are raised as for as many numbers as there are windows: (n + 1) / n, as in split conformal
   prediction (Lei et al. 2018, 1604.04173, section 2.2).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sfumato.data.series import Series, Standard, joined, risen, stacked
from sfumato.denoisers.kriged import Bases, Kriging, Solved
from sfumato.training.variogram import covariance
from sfumato.zoo.calibration import calibrated, normal_crps
from sfumato.zoo.trials import MANY, Trial, trials

RIDGES = (0.003, 0.03, 0.3, 3.0, 30.0, 300.0, 3e4, 3e6)
FLOORS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)
DOFS = (math.inf, 10.0, 1.0)
TAPERS = (math.inf, 0.5, 0.2, 0.05)  # over the length of the window
LOOSE = (0.0, 0.1, 1.0, 10.0)
TIE = 1.01  # scores that count as equal
TREND = 0.9  # a line drawn on must lower the CRPS to this share
FEW = 12  # places that do where trials overlap
SHOWN = 64  # series that a fold's covariance is learned from


@dataclass(frozen=True, eq=False)
class Scales:
    """How a series is brought to one scale.

    Attributes:
        ridge: of the regression on the calendar and on known columns.
        trend: whether on time itself, too.
        shared: one scale for all series; None where each has its own.
    """

    ridge: float = 3.0
    trend: bool = False
    shared: Standard | None = None

    def encode(self, series: Series) -> tuple[Series, Standard]:
        """The series on the scale of what is known of it, and the scale."""
        wide = risen(series) if self.trend else series
        standard = Standard.fit(wide, self.ridge) if self.shared is None else self.shared
        return standard.encode(wide), standard


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen.

    Attributes:
        scales: of a series.
        law: of windows on that scale.
        length: of the window.
        held_out: "crps" of the trials, over the spread of their channel; "trials", how many there were; and what was
            chosen.
    """

    scales: Scales
    law: Kriging
    length: int
    held_out: dict[str, float] = field(default_factory=dict)


def choose(series: Sequence[Series], horizon: int, patterns: Tensor | None, lengths: Sequence[int]) -> Choice:
    """The scale, law and length of the least CRPS on trials; plain ones where there are fewer than 4 trials."""
    tried = trials(series, horizon, patterns)
    if len(tried) < 4:
        plan = Plan(Kriging(torch.empty(0), floor=1e-2, dof=1.0), lengths[0], 0.3)
        return Choice(Scales(), finished(series, Scales(), plan), plan.length)
    every = list(views(series, tried, max(lengths)))
    kinds = [[one for one in every if one.scales.trend == risen] for risen in (False, True)]
    flat, rises = (least(kind, lengths)[2] for kind in kinds)
    # Windows of one series to forecast overlap eightfold: a third of them tells nearly as much at a third of the cost.
    alike = bool(horizon) and len(series) < MANY
    view, plan = search(kinds[rises < TREND * flat], lengths, alike)
    gain, tail = calibrated(*view.errors(plan)[:2], len({id(trial.known) for trial in tried}))
    about = {"crps": view.crps([plan])[0], "trials": float(len(tried)), "ridge": view.scales.ridge}
    about |= {"trend": float(view.scales.trend), "shared": float(view.scales.shared is not None)}
    about |= {"floor": plan.law.floor, "level": plan.level, "wave": plan.wave, "taper": plan.taper, "tail": tail}
    plan = replace(plan, law=replace(plan.law, gain=gain, tail=tail))
    return Choice(view.scales, finished(series, view.scales, plan), plan.length, about)


def least(every: Sequence[View], lengths: Sequence[int]) -> tuple[View, Plan, float]:
    """The view and the rough plan of the least CRPS."""
    some, law = lengths[len(lengths) // 2], Kriging(torch.empty(0), dof=10.0)
    rough = [
        Plan(replace(law, floor=floor), some, level=level, wave=wave)
        for floor in FLOORS[1:6:2]
        for level, wave in ((0.0, 0.0), (1.0, 1.0))
    ]
    scores = [(score, view, plan) for view in every for plan, score in zip(rough, view.thin.crps(rough), strict=True)]
    score, view, plan = min(scores, key=lambda one: one[0])
    return view, plan, score


def search(every: Sequence[View], lengths: Sequence[int], thin: bool = False) -> tuple[View, Plan]:
    """The view and the plan of the least CRPS, one after another; the length of few trials where they are `thin`."""
    view, plan, _ = least(every, lengths)
    for better in (
        lambda p: [replace(p, length=n, level=a, wave=a) for n in lengths for a in LOOSE],
        lambda p: [replace(p, taper=taper) for taper in TAPERS],
        lambda p: [replace(p, level=a, wave=b) for a, b in itertools.product(LOOSE, LOOSE)],
        lambda p: [replace(p, law=replace(p.law, floor=f, dof=d)) for f, d in itertools.product(FLOORS, DOFS)],
    ):
        plans = better(plan)
        scores = (view.thin if thin else view).crps(plans)
        thin = False
        plan = min(zip(scores, plans, strict=True), key=lambda one: one[0])[1]
    # The last plans differ in floor and degrees of freedom. A floor takes away what numbers have in common, which the
    # CRPS of single numbers does not feel: the least one that costs no more than `TIE`.
    near = [(one.law.floor, score, one) for score, one in zip(scores, plans, strict=True) if score <= TIE * min(scores)]
    plan = min(near, key=lambda one: one[:2])[2]
    return view, plan


def finished(series: Sequence[Series], scales: Scales, plan: Plan) -> Kriging:
    """The law with the covariance of all series."""
    encoded = [scales.encode(one)[0] for one in series]
    return plan.full(covariance([one.values for one in encoded], plan.length), swing(encoded, plan.length))


@dataclass(frozen=True, eq=False)
class Plan:
    """A candidate.

    Attributes:
        law: its floor and degrees of freedom.
        length: of the window.
        taper: reach of the covariance, in lengths.
        level, wave: variance of the level and of the calendar's waves of a window around the regression.
    """

    law: Kriging
    length: int
    taper: float = math.inf
    level: float = 0.0
    wave: float = 0.0

    def full(self, table: Tensor, swing: Tensor) -> Kriging:
        """The law with K(lag) exp(-(lag / reach)^2 / 2) + level + wave swing(lag), reach = taper x length.

        What is known of long lags is mostly noise where the series are short.
        """
        lag = torch.arange(table.shape[2], dtype=torch.float64) - table.shape[2] // 2
        loose = (self.level + self.wave * swing) * torch.eye(len(table), dtype=torch.float64)[:, :, None]
        return replace(self.law, table=table * torch.exp(-0.5 * (lag / (self.taper * self.length)) ** 2) + loose)


def swing(series: Sequence[Series], lags: int) -> Tensor:
    """sum_k cos(phase_k(lag)) / k^2 over the waves, 1 at lag 0, at lags -M .. M; 0 where there are none."""
    longest = max(series, key=len)
    waves, M = longest.cycles / longest.orders[:, None], min(lags, len(longest) - 1)
    half = (waves[:, :1] * waves[:, : M + 1]).sum(0)
    half = (
        torch.cat([half, half.new_zeros(lags - M)]) / half[0].clamp(min=1e-12) if len(waves) else torch.zeros(lags + 1)
    )
    return torch.cat([half[1:].flip(0), half]).double()


@dataclass(frozen=True, eq=False)
class Fold:
    """Trials of one fold on a scale.

    Attributes:
        x0: windows up to the ends of the trials, complete, (B, C, L).
        valid: (B, C, L).
        time: (B, L).
        hidden: (B, C, L).
        unit: (B, C), what 1 on the scale is in spreads of the channel.
        first: of each, whether it is the first at its place.
        table: covariance of what the fold learns from.
        swing: of its calendar.
    """

    x0: Tensor
    valid: Tensor
    time: Tensor
    hidden: Tensor
    unit: Tensor
    first: Tensor
    table: Tensor
    swing: Tensor

    def thin(self, step: int) -> Fold:
        """One trial of every `step`-th place."""
        names = ("x0", "valid", "time", "hidden", "unit", "first")
        kept = self.first & ((self.first.long().cumsum(0) - 1) % step == 0)
        return replace(self, **{name: getattr(self, name)[kept] for name in names})

    def solve(self, plan: Plan, bases: Bases) -> tuple[Solved, ...]:
        """What kriging under the plan gives for the trials."""
        past = slice(-plan.length, None)
        given = self.valid[..., past] & ~self.hidden[..., past]
        law = plan.full(self.table, self.swing)
        return law.solve(self.x0[..., past], given, self.time[:, past], self.wanted(plan.length), bases)

    def wanted(self, length: int) -> Tensor:
        """What counts of the last `length` rows, (B, C, length)."""
        return (self.valid & self.hidden)[..., -length:]


@dataclass(frozen=True, eq=False)
class View:
    """All trials on one kind of scale."""

    scales: Scales
    folds: list[Fold]

    @cached_property
    def thin(self) -> View:
        """One trial of each of at most some `FEW` places, spread evenly."""
        places = sum(int(fold.first.sum()) for fold in self.folds)
        return View(self.scales, [fold.thin(max(1, places // FEW)) for fold in self.folds])

    def errors(self, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
        """(z, wanted, s in spreads of the channel) of the trials, each (B, C, length), under a law that has no gain."""
        return self._errors(plan, [fold.solve(plan, {}) for fold in self.folds])

    def _errors(self, plan: Plan, solved: Sequence[Sequence[Solved]]) -> tuple[Tensor, Tensor, Tensor]:
        found = []
        for fold, parts in zip(self.folds, solved, strict=True):
            x0, wanted = fold.x0[..., -plan.length :], fold.wanted(plan.length)
            posterior = plan.law.posed(parts, wanted, x0)
            found.append((posterior.encode(x0), wanted, posterior.std * fold.unit[..., None]))
        z, wanted, s = (torch.cat(parts) for parts in zip(*found, strict=True))
        wanted = wanted & (s > 0)
        # A channel of which nothing is known has no scale of its own: its errors are no numbers.
        return z.masked_fill(~wanted, 0.0), wanted, s

    def crps(self, plans: Sequence[Plan]) -> list[float]:
        """Of each plan, the mean CRPS of normal errors, their spread that of these very trials, channel by channel."""
        found = [0.0] * len(plans)
        keys = [(plan.length, plan.taper, plan.level, plan.wave, plan.law.floor) for plan in plans]
        table: Any = None
        bases: list[Bases] = []
        # Plans of one table share the bases of its windows, those of one floor all but the size of their errors.
        for i in sorted(range(len(plans)), key=lambda i: keys[i]):
            if table != keys[i][:4]:
                table, floor, bases = keys[i][:4], None, [{} for _ in self.folds]
            if floor != keys[i][4]:
                floor = keys[i][4]
                solved = [fold.solve(plans[i], known) for fold, known in zip(self.folds, bases, strict=True)]
            found[i] = normal_crps(*self._errors(plans[i], solved))
        return found


def views(series: Sequence[Series], tried: Sequence[Trial], longest: int) -> Iterator[View]:
    """The trials on every kind of scale."""
    values = torch.cat([one.values for one in series], 1)
    mean = values.nanmean(1, keepdim=True)
    spread = (values - mean).square().nanmean(1).sqrt().clamp(min=1e-12)
    number = max(trial.fold for trial in tried) + 1
    ways = [(False, False), (True, False)] + ([(False, True)] if len(series) >= MANY else [])
    for trend, shared in ways:
        made: list[list[Fold]] = [[] for _ in RIDGES]
        common: list[Standard | None] = [None] * len(RIDGES)
        if shared:
            common = list(Standard.fits(joined(series), RIDGES))
        for k in range(number):
            mine = [trial for trial in tried if trial.fold == k]
            if not mine:
                continue
            if mine[0].origin < 0:
                sources = [one for i, one in enumerate(series) if i % number != k]
                sources = sources[:: max(1, len(sources) // SHOWN)]
            else:
                sources = [one.cut(0, mine[0].origin) for one in series if len(one) > mine[0].origin]
            if shared:
                common = list(Standard.fits(joined(sources), RIDGES))
            scaled = {id(trial.known): _encoded(trial.known, trial.series, trend, common) for trial in mine}
            seen = [scaled[id(trial.known)] for trial in mine]
            learned = [_encoded(one, one, trend, common) for one in sources]
            hidden = torch.stack([_ending(trial.hidden, longest) for trial in mine])
            first = torch.tensor([b == 0 or trial.known is not mine[b - 1].known for b, trial in enumerate(mine)])
            for r in range(len(RIDGES)):
                x0, cond = stacked([padded(rows[r][0], longest) for rows in seen])
                unit = torch.stack([torch.where(rows[r][1].constant, 0.0, rows[r][1].scale) / spread for rows in seen])
                table = covariance([rows[r][0].values for rows in learned], longest)
                waves = swing([rows[r][0] for rows in learned], longest)
                valid, time = cond["valid"].bool(), cond["time"]
                made[r].append(Fold(x0.double(), valid, time, hidden, unit, first, table, waves))
        for ridge, folds, standard in zip(RIDGES, made, common, strict=True):
            whole = None
            if shared and standard is not None:
                whole = Standard.fit(joined(series), ridge)
            yield View(Scales(ridge, trend, whole), folds)


def _encoded(
    known: Series, whole: Series, trend: bool, common: Sequence[Standard | None]
) -> list[tuple[Series, Standard]]:
    """The whole series on the scale of what is known of it, with each ridge."""
    wide = risen(known) if trend else known
    own = Standard.fits(wide, RIDGES) if common[0] is None else common
    return [(one.encode(replace(wide, values=whole.values)), one) for one in own if one is not None]


def padded(series: Series, length: int) -> Series:
    """The last `length` rows; a shorter series is preceded by missing ones."""
    gap = length - len(series)
    if gap <= 0:
        return series.cut(-gap, len(series))

    def wider(x: Tensor, value: float) -> Tensor:
        return torch.cat([x.new_full((x.shape[0], gap), value), x], 1)

    return replace(
        series,
        values=wider(series.values, math.nan),
        covariates=wider(series.covariates, 0.0),
        cycles=wider(series.cycles, 0.0),
        time=torch.cat([series.time[0] - torch.arange(gap, 0, -1, dtype=series.time.dtype), series.time]),
    )


def _ending(hidden: Tensor, length: int) -> Tensor:
    """The last `length` columns, preceded by False where there are fewer."""
    gap = max(0, length - hidden.shape[1])
    return torch.cat([hidden.new_zeros(hidden.shape[0], gap), hidden], 1)[:, -length:]
