"""The solver that `restore` takes for each kind of damage, as the table of photographs says."""

from __future__ import annotations

from typing import Any

from sfumato.bench.records import Records, flat
from sfumato.bench.tasks import tasks

TABLE = "benchmarks/data/solvers_photo12.json"


def chosen(records: Records) -> dict[str, dict[str, Any]]:
    """For each kind: the method with the best PSNR of one sample over its tasks, among those that did all of them.

    Each entry holds the method's key, the name of its setting, and the reason in words. Tasks that are not in the table
    do not count.
    """
    found: dict[str, dict[str, Any]] = {}
    held = {record["task"] for _, record in flat(records)}
    for kind in dict.fromkeys(task.kind for task in tasks().values()):
        on = [task.name for task in tasks().values() if task.kind == kind and task.name in held]
        scores: dict[tuple[str, str], list[float]] = {}
        for key, record in flat(records):
            if record["task"] in on and "psnr" in record["row"]:
                scores.setdefault((key, record["row"]["name"]), []).append(record["row"]["psnr"])
        means = {who: sum(v) / len(v) for who, v in scores.items() if len(v) == len(on)}
        order = sorted(means, key=lambda who: -means[who])
        if len(order) < 2:
            continue
        (key, name), second = order[0], order[1]
        keys = {who[0] for who in means}
        why = (
            f"{name}: best PSNR of {len(keys)} methods on {' and '.join(on)} in {TABLE} "
            f"({means[order[0]]:.1f} dB; next {second[1]}, {means[second]:.1f}); see docs/solvers.md."
        )
        found[kind] = {"key": key, "name": name, "why": why}
    return found
