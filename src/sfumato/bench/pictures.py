"""The table of solvers on photographs: `sfumato bench solvers --images`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import metrics
from sfumato.bench import records
from sfumato.bench.budget import Budgeted, budgeted
from sfumato.bench.memory import peak
from sfumato.bench.published import published
from sfumato.bench.tasks import Task
from sfumato.denoisers import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.noise import Seeds
from sfumato.operators.levels import count
from sfumato.processes import Table, Time
from sfumato.zoo import Model

CALLS, SIDE = 20, 32  # (ours)


class Rows(Wrapper):
    """Counts the rows that `inner` is called on: particles and repeated pictures each count."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self.rows = 0

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        self.rows += len(xt)
        return self.inner(xt, t, cond)  # type: ignore[no-any-return]


def centre(pictures: Mapping[str, Tensor], side: int) -> Tensor:
    """The central squares of pictures (3, H, W), one batch (B, 3, side, side)."""
    cut = []
    for picture in pictures.values():
        top, left = ((n - side) // 2 for n in picture.shape[1:])
        cut.append(picture[:, top : top + side, left : left + side])
    return torch.stack(cut)


def table(
    model: Model,
    x0: Tensor,
    chosen: Iterable[Task],
    keys: Iterable[str] = (),
    *,
    calls: int = CALLS,
    papers: bool = False,
    samples: int = 1,
    seed: int = 0,
    path: Path | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, record) of every setting of the methods on the tasks that they claim.

    Args:
        x0: clean pictures, (B, 3, H, W), data space.
        keys: of the methods; all of them unless given.
        calls: network calls for each sample.
        papers: every method at the settings of its paper (`published`), whatever they cost, in place of `calls`.
        samples: of each picture: from 3 on the intervals' coverage is in the row.
        path: a file that the records are added to, and whose records are not computed again.
    """
    only, held = set(keys), records.read(path)
    settings = [s for s in (published() if papers else budgeted(calls)) if not only or s.key in only]
    for task in chosen:
        for setting in settings:
            if task.kind not in setting.kinds or (setting.noisy and task.sigma == 0.0):
                continue
            how = {"name": setting.name, "pictures": len(x0), "side": x0.shape[-1], "samples": samples}
            how |= {"calls": None if papers else calls, "seed": seed}
            record = records.find(held, setting.key, task=task.name, **how)
            if record is None:
                record = {
                    "task": task.name,
                    "row": {**how, **measure(model, x0, task, setting, samples=samples, seed=seed)},
                }
                records.add(held, setting.key, record, path)
            yield setting.key, record


def measure(model: Model, x0: Tensor, task: Task, setting: Budgeted, *, samples: int, seed: int) -> dict[str, Any]:
    """The figures of one solver on one task, means over pictures: of one sample unless said.

    psnr, ssim, gmsd: of samples, averaged; psnr_mean: of their mean; misfit: root mean square of y - A x over sigma,
    or the residual itself where sigma is 0; half, most: coverage of the central 50 % and 90 % intervals (3 samples
    and more; S samples can cover (S - 1) / (S + 1)); nfe: network calls for each sample; seconds and megabytes of the
    whole run; failed: what the solver said if it could not.
    """
    m = task.measure(x0, seed)
    z = m.to_model(model.codec)
    solver = setting.make(z)
    denoiser = Rows(model.denoiser.with_process(Table.linear()) if setting.table else model.denoiser)
    rows = [(item, sample) for sample in range(samples) for item in range(len(x0))]
    began = time.perf_counter()
    try:
        with peak(x0.device) as memory, torch.no_grad():
            x = solver(denoiser, z.repeat(samples), Seeds.keyed(seed, rows))
    except (FloatingPointError, ValueError) as error:
        return {"solver": repr(solver), "failed": str(error)}
    seconds = time.perf_counter() - began
    whole = model.codec.decode(x).reshape(samples, *x0.shape)
    shown = whole.clamp(0.0, 1.0)
    flat, truth = shown.flatten(0, 1), x0.repeat(samples, 1, 1, 1)
    clean, seen = m.repeat(samples), count(m).repeat(samples)
    misfit = float((clean.residual(whole.flatten(0, 1)).square().flatten(1).sum(1) / seen).mean().sqrt())
    found = {
        "psnr": float(metrics.psnr(flat, truth).mean()),
        "ssim": float(metrics.ssim(flat, truth).mean()) if min(x0.shape[2:]) >= 11 else None,
        "gmsd": float(metrics.gmsd(flat, truth).mean()),
        "misfit": misfit / task.sigma if task.sigma else misfit,
    }
    if samples > 2:
        found["psnr_mean"] = float(metrics.psnr(shown.mean(0), x0).mean())
        found["half"], found["most"] = (float(metrics.coverage(whole, x0, level=l).mean()) for l in (0.5, 0.9))
        found["crps"] = float(metrics.crps(whole, x0, fair=True).mean())
    cost = {"nfe": denoiser.rows / len(rows), "seconds": seconds, "megabytes": memory[0] if memory else None}
    return {"solver": repr(solver), **{k: v if v is None else round(v, 4) for k, v in {**found, **cost}.items()}}
