"""A small model of the series of one table, learned on the spot: kriging first, a network for the rest (ours).

The scale and the law of windows are fitted in closed form and chosen by predicting the past (`zoo.backtest`); then a
CSDI network learns what the law leaves over (`denoisers.kriged`). If it does not help on held-out rows it is dropped.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from sfumato import grids
from sfumato.data.series import Series, Windows, stacked
from sfumato.denoisers.kriged import Kriged, KrigedLoss
from sfumato.noise import Noise, Seeds
from sfumato.processes import LinearBeta, Time
from sfumato.recipes.csdi import Recipe
from sfumato.samplers import Arc
from sfumato.samplers.paths import paths
from sfumato.training import Ema, fit, masking, warmup_decay
from sfumato.zoo.backtest import Scales, choose

TRIED = 48  # windows that a network is judged on
NUMBERS = 800  # in a window, at most: the law costs their cube
LEVELS = 50
NOISY, CLEAN = -5.0, 8.0  # log SNR between which the network learns
Progress = Callable[[int, int], None]
Hide = Callable[[Tensor, Noise], Tensor]


@dataclass(frozen=True, eq=False)
class SeriesModel:
    """A law of windows and, where it helps, a network on top.

    Attributes:
        denoiser: of windows on one scale.
        scales: how a series comes to it.
        length: L of the window.
        horizon: rows forecast at its end; 0 where gaps are filled.
        steps: of training that were run.
        held_out: what the trials came to (`Choice`); where a network was trained, the mean loss on held-out windows of
            the "law" alone (1 where it fits) and of the "network".
    """

    denoiser: Kriged
    scales: Scales
    length: int
    horizon: int
    steps: int = 0
    held_out: dict[str, float] = field(default_factory=dict)

    def predict(self, series: Series, n: int, *, seed: int = 0, item: object = 0, steps: int = 16) -> Tensor:
        """n fillings of what is missing (NaN) in the last `length` rows of a series, (n, C, length), in its unit."""
        z, standard = self.scales.encode(series)
        window = z.cut(max(0, len(z) - self.length), len(z))
        drawn = self.sample([window], n, seed=seed, items=[item], steps=steps)[:, 0]
        known = series.values[:, -drawn.shape[2] :]
        return torch.where(known.isnan(), standard.decode(drawn, window), known)

    def sample(
        self,
        windows: Sequence[Series],
        n: int,
        *,
        seed: int = 0,
        items: Sequence[object] | None = None,
        steps: int = 16,
        batch: int = 1024,
    ) -> Tensor:
        """n fillings of what is missing (NaN) in standardized windows of one length, (n, B, C, L), float64.

        What is known comes back as it is. Sample k of a window depends on (seed, its name in `items`, k) alone.
        """
        values = torch.stack([window.values for window in windows])
        observed, cond = stacked(windows)
        known = {key: value for key, value in cond.items() if key != "valid"}
        known |= {"observed": observed, "mask": cond["valid"]}
        posterior = self.denoiser.posterior(known)
        process = self.denoiser.process
        assert isinstance(process, LinearBeta)
        times = grids.default(process, steps)
        z = paths(self.denoiser, known, n, times=times, sampler=Arc(), seed=seed, items=items, batch=batch)
        return torch.where(values.isnan(), posterior.decode(z).double(), values)


def learn(
    series: Sequence[Series],
    *,
    horizon: int = 0,
    patterns: Tensor | None = None,
    lengths: Sequence[int] = (),
    minutes: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    width: int = 32,
    blocks: int = 2,
    rate: float = 2e-3,
    batch: int = 16,
    progress: Progress | None = None,
) -> SeriesModel:
    """A model of series in their own units.

    Args:
        series: of the same channels, covariates and statics.
        horizon: rows to forecast; 0 for a model that fills gaps.
        patterns: to fill gaps, what is given of the windows that are asked about, (P, C, L); by default points, blocks
            and whole channels are.
        lengths: of windows, to choose from; by the data if not given. Patterns have a length of their own.
        minutes: how long the network may train; 0 for the law alone.
        steps: of training, in the place of `minutes`: the same model every time.
        progress: called with the steps done and in all.

    Raises:
        ValueError: if the series are too short for a single window.
    """
    lengths = lengths or ([patterns.shape[2]] if patterns is not None else suggested(series, horizon))
    lengths = [n for n in lengths if any(len(one) >= n for one in series)]
    if not lengths:
        raise ValueError("the series are shorter than every window: give longer ones, or a shorter horizon.")
    C, F, S = series[0].values.shape[0], len(series[0].covariates), len(series[0].static)
    hide = strategy(series, horizon)
    if not horizon and patterns is None:
        some = torch.ones(16, C, lengths[-1], dtype=torch.bool)
        patterns = hide(some, Seeds.keyed(seed, (("pattern", b) for b in range(16))))
    choice = choose(series, horizon, patterns, lengths)
    length, process = choice.length, LinearBeta()
    alone = SeriesModel(
        Kriged(None, choice.law, process, _clock), choice.scales, length, horizon, 0, dict(choice.held_out)
    )
    if steps == 0 or (steps is None and minutes <= 0.0):
        return alone
    torch.manual_seed(seed)  # the first weights, and no draw after them
    recipe = Recipe(
        channels=C,
        covariates=F + 3 * C,
        statics=S,
        width=width,
        blocks=blocks,
        heads=4,
        forward=2 * width,
        dropout=0.0,
        steps=LEVELS,
        patch=max(1, length // 32),
    )
    denoiser = Kriged(recipe.net(), choice.law, process, _clock)
    loss = KrigedLoss(denoiser, hide, noisy=NOISY, clean=CLEAN)
    train, tried = split([choice.scales.encode(one)[0] for one in series])
    windows = Windows(train, length)
    judge = _Judge(tried, length, hide, seed)
    before = judge(KrigedLoss(alone.denoiser, hide, noisy=NOISY, clean=CLEAN))
    done, best = _train(loss, windows, judge, before, minutes, steps, seed, rate, batch, progress)
    found = {**alone.held_out, "law": before, "network": best[0]}
    if best[1] is None:
        return replace(alone, steps=done, held_out=found)
    kept = best[1].denoiser.eval().requires_grad_(False)
    return replace(alone, denoiser=kept, steps=done, held_out=found)


def strategy(series: Sequence[Series], horizon: int) -> Hide:
    """What is hidden in training: the last rows to forecast; points, blocks, whole channels and real gaps to fill."""
    if horizon:
        return masking.Last(horizon)
    ways: list[Hide] = [masking.random, masking.block]
    if series[0].values.shape[0] > 1:
        ways.append(channels)
    if any(bool(one.values.isnan().any()) for one in series):
        ways.append(masking.historical)
    return masking.Mix(tuple(ways))


def channels(valid: Tensor, noise: Noise) -> Tensor:
    """Each channel is hidden whole with probability 1/2; at least one is, and at least one is not."""
    u = noise.uniform(torch.empty(valid.shape[:2]))
    lost = u < 0.5
    rank = u.argsort(1).argsort(1)
    lost = (lost | (rank == 0)) & (rank != valid.shape[1] - 1)
    return valid & ~lost[:, :, None].to(valid.device)


def suggested(series: Sequence[Series], horizon: int) -> list[int]:
    """Lengths of windows worth trying, shortest first."""
    rows, C = max(len(one) for one in series), series[0].values.shape[0]
    most = min(NUMBERS // C, rows if len(series) > 4 else max(rows // 2, 2 * horizon, 2))
    if not horizon:
        return [max(2, min(most, 96))]
    wanted = {horizon + past for past in (horizon, 3 * horizon, 7 * horizon, 24, 96, 336)}
    return sorted({max(horizon + 1, min(n, most, rows)) for n in wanted})


def split(series: Sequence[Series]) -> tuple[list[Series], list[Series]]:
    """(to learn from, to judge by): every fifth series where there are ten, else the last fifth of the rows.

    The part that is judged begins earlier, with rows to look back on: they are not hidden when a forecast is judged.
    """
    if len(series) >= 10:
        return [one for i, one in enumerate(series) if i % 5], [one for i, one in enumerate(series) if i % 5 == 0]
    cut = [max(2, round(0.8 * len(one))) for one in series]
    return [one.cut(0, at) for one, at in zip(series, cut, strict=True)], list(series)


class _Judge:
    """The loss on fixed windows of held-out rows, under fixed draws."""

    def __init__(self, tried: Sequence[Series], length: int, hide: Hide, seed: int) -> None:
        self.x0, self.cond = stacked(late(tried, length))
        self.seed = seed
        # The very masks are drawn once, so that each call hides the same numbers.
        self.noise = [("judge", b) for b in range(len(self.x0))]

    @torch.no_grad()
    def __call__(self, loss: nn.Module) -> float:
        was = loss.training
        loss.eval()
        values = [
            loss(self.x0, self.cond, Seeds.keyed(self.seed, ((k, name) for name in self.noise))) for k in range(2)
        ]
        loss.train(was)
        return float(torch.stack(values).mean())


def late(tried: Sequence[Series], length: int, count: int = TRIED) -> list[Series]:
    """At most `count` windows, evenly over the last fifths of series, or over whole ones where there are ten."""
    whole = len(tried) > 1
    places = []
    for one in tried:
        last = len(one) - length
        if last >= 0:
            first = 0 if whole else max(0, round(0.8 * len(one)) - length + max(1, length // 4))
            places += [(one, start) for start in range(min(first, last), last + 1)]
    if not places:
        raise ValueError(f"no held-out series has {length} rows: take shorter windows.")
    step = max(1.0, len(places) / count)
    return [
        one.cut(start, start + length) for one, start in (places[int(i * step)] for i in range(int(len(places) / step)))
    ]


def _train(
    loss: KrigedLoss,
    windows: Windows,
    judge: _Judge,
    before: float,
    minutes: float,
    steps: int | None,
    seed: int,
    rate: float,
    batch: int,
    progress: Progress | None,
) -> tuple[int, tuple[float, KrigedLoss | None]]:
    """(steps run, (least loss, the averaged weights that have it)); None where none beats the law alone."""
    if steps is None:
        steps = _affordable(copy.deepcopy(loss), windows, minutes, seed, rate, batch)
    optimizer, ema = torch.optim.AdamW(loss.parameters(), lr=rate, weight_decay=1e-4), Ema(loss, 0.99)
    schedule = warmup_decay(steps, warmup=min(100, steps // 10))
    best: tuple[float, KrigedLoss | None] = (math.inf, None)
    every = max(1, steps // 10)
    for step in fit(loss, windows, optimizer, steps=steps, batch=batch, seed=seed, ema=ema, schedule=schedule):
        if step.index % every == 0 or step.index == steps:
            average = ema.average
            assert isinstance(average, KrigedLoss)
            score = judge(average)
            if score < best[0]:
                best = (score, copy.deepcopy(average) if score < before else None)
        if progress:
            progress(step.index, steps)
    return steps, best


def _affordable(loss: KrigedLoss, windows: Windows, minutes: float, seed: int, rate: float, batch: int) -> int:
    """How many steps fit into the time, from the pace of the first few."""
    optimizer = torch.optim.AdamW(loss.parameters(), lr=rate)
    began, count = time.perf_counter(), 0
    for step in fit(loss, windows, optimizer, steps=8, batch=batch, seed=seed):
        count = step.index
        if count == 2:
            began = time.perf_counter()
    pace = (time.perf_counter() - began) / max(1, count - 2)
    return max(1, int(0.85 * 60.0 * minutes / pace))


def _clock(t: Time) -> Time:
    """What the network is told of t: 0 at `CLEAN`, LEVELS - 1 at `NOISY`, even in log SNR."""
    return (CLEAN - LinearBeta().log_snr(t)) * ((LEVELS - 1) / (CLEAN - NOISY))
