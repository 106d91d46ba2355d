"""The table of solvers against exact posteriors: `sfumato bench solvers --world NAME`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sfumato.bench import records
from sfumato.bench.rows import exact, row
from sfumato.bench.settings import draw, settings
from sfumato.bench.worlds import Instance
from sfumato.noise import Noise

FLOOR = "floor"  # the key of exact samples: no method's row can be nearer
DRAWS, SAMPLES = 40, 200  # (ours)


def table(
    instances: Iterable[Instance],
    keys: Iterable[str] = (),
    *,
    draws: int = DRAWS,
    samples: int = SAMPLES,
    steps: int | None = None,
    seed: int = 0,
    path: Path | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, record) of the floor and of every setting of the methods on each problem that they are meant for.

    Args:
        keys: of the methods; all of them, and the floor, unless given.
        draws: measurements of each problem.
        samples: of each measurement.
        steps: replaces the steps of every setting.
        path: a file that the records are added to, and whose records are not computed again.
    """
    chosen = set(keys)
    wanted = [(FLOOR, "exact samples", None), *((s.key, s.name, s) for s in settings())]
    held = records.read(path)
    for instance in instances:
        x0, m = instance.measured(draws, seed)
        for key, name, setting in wanted:
            if (chosen and key not in chosen) or (setting is not None and not setting.suits(instance)):
                continue
            how = {"name": name, "draws": draws, "samples": samples, "steps": steps, "seed": seed}
            record = records.find(held, key, world=instance.name, **how)
            if record is None:
                began, noise = time.perf_counter(), Noise(seed + 1)
                if setting is None:
                    x, nfe = exact(instance, m, samples, noise=noise), 0
                else:
                    x, nfe = draw(setting, instance, m, samples, noise=noise, steps=steps)
                seconds = round(time.perf_counter() - began, 2)
                figures = row(instance, x0, m, x, noise=Noise(seed + 2)).plain()
                solver = repr(setting.solver) if setting else ""
                record = {
                    "world": instance.name,
                    "row": {**how, "solver": solver, "nfe": nfe, "seconds": seconds, **figures},
                }
                records.add(held, key, record, path)
            yield key, record
