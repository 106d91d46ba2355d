"""Runs the tasks of the demo: measure, restore, compare."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.demo.tasks import Task
from sfumato.metrics import psnr, ssim
from sfumato.noise import Noise, Seeds
from sfumato.operators import Mask, Measurement
from sfumato.processes import Gaussian
from sfumato.zoo import Model

Progress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True)
class Score:
    """One line of the table: PSNR in decibels and SSIM; None where the method could not run."""

    method: str
    psnr: float | None
    ssim: float | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one task gave. Pictures are (3, H, W) in [0, 1].

    Attributes:
        measured: what was measured, as a picture of the size of x0.
        restored: the mean of the samples.
        samples: (S, 3, H, W).
        spread: standard deviation of the samples, mean over color, (H, W); None of one sample.
        baseline: the name and picture of the first baseline that ran, if one did.
        scores: measured, baselines, one sample (their mean score) and the mean of the samples.
        states: (time, picture) of the first sample on its way, noisiest first.
        nfe: network calls for each sample.
    """

    task: Task
    measured: Tensor
    restored: Tensor
    samples: Tensor
    spread: Tensor | None
    baseline: tuple[str, Tensor] | None
    scores: tuple[Score, ...]
    states: tuple[tuple[float, Tensor], ...]
    nfe: int
    seconds: float


def run(
    model: Model,
    picture: Tensor,
    task: Task,
    *,
    samples: int,
    seed: int,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Damages the picture (3, H, W) in [0, 1] as the task says, restores it, and scores everything against it.

    Deterministic in the seed and the noise of the measurement (`Noise(seed)` by default), but for `seconds`.
    """
    x0 = picture[None]
    m = task.measure(x0, Noise(seed) if noise is None else noise)
    start = time.perf_counter()
    drawn, states, nfe = restore(model, m, task, samples=samples, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    drawn = drawn.clamp(0, 1)
    restored, shown = drawn.mean(0, keepdim=True), view(m, x0)
    scores, baseline = [_score("as measured", shown, x0)], None
    for name, method in task.baselines.items():
        try:
            done = method(m)
        except ImportError:  # the extra is not installed: the table says so
            scores.append(Score(name, None, None))
            continue
        scores.append(_score(name, done, x0))
        baseline = baseline or (name, done[0])
    if len(drawn) > 1:
        scores.append(_score("sfumato, one sample", drawn, x0.expand_as(drawn)))
    scores.append(_score("sfumato", restored, x0))
    return Outcome(
        task,
        shown[0],
        restored[0],
        drawn,
        drawn.std(0).mean(0) if len(drawn) > 1 else None,
        baseline,
        tuple(scores),
        states,
        nfe,
        seconds,
    )


def restore(
    model: Model, m: Measurement, task: Task, *, samples: int, seed: int, progress: Progress | None = None
) -> tuple[Tensor, tuple[tuple[float, Tensor], ...], int]:
    """(samples (S, 3, H, W), states of the first one, network calls for each sample), data space, of a single y."""
    denoiser, process = model.denoiser, model.denoiser.process
    assert isinstance(process, Gaussian)
    rows = 1 if task.steps == 1 else samples
    z = m.to_model(model.codec).repeat(rows)
    states, last = [], None
    with torch.no_grad():
        for last in task.solver.trajectory(denoiser, z, Seeds.keyed(seed, range(rows))):
            t = float(last.time)
            scale = math.hypot(process.alpha(t), process.sigma(t))  # type: ignore[arg-type]
            states.append((t, model.codec.decode(last.x[0] / scale).clamp(0, 1)))
            if progress and last.index:
                progress(last.index, task.steps)
    assert last is not None
    return model.codec.decode(last.x), tuple(states), last.index


def view(m: Measurement, x0: Tensor) -> Tensor:
    """The measurement as a picture of the size of x0: grey where nothing was seen, small pictures as blocks."""
    if isinstance(m.operator, Mask):
        seen = m.operator.s
        return (m.y * seen + 0.5 * (1 - seen)).clamp(0, 1)
    return F.interpolate(m.y, size=x0.shape[2:], mode="nearest").clamp(0, 1)


def forward(model: Model, picture: Tensor, times: list[float], seed: int) -> list[Tensor]:
    """x_t of the picture at these times under one draw of noise, scaled to be seen, data space."""
    process = model.denoiser.process
    assert isinstance(process, Gaussian)
    x0 = model.codec.encode(picture)
    eps = Noise(seed).normal(x0)
    frames = []
    for t in times:
        scale = math.hypot(process.alpha(t), process.sigma(t))  # type: ignore[arg-type]
        frames.append(model.codec.decode(process.perturb(x0, t, eps) / scale).clamp(0, 1))
    return frames


def _score(method: str, x: Tensor, x0: Tensor) -> Score:
    return Score(method, float(psnr(x, x0).mean()), float(ssim(x, x0).mean()))
