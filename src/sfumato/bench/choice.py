"""The solver that `restore` takes for each kind of damage, as the table of photographs says."""

from __future__ import annotations

from typing import Any

from sfumato.bench.records import Records, flat
from sfumato.bench.tasks import tasks

TABLE = "benchmarks/data/solvers_photo12.json"
TIE = 0.1  # dB (ours): less is no difference on twelve small pictures


def chosen(records: Records) -> dict[str, dict[str, Any]]:
    """For each kind: the method with the best PSNR of one sample over its tasks, among those that did all of them; of
    methods that are equal to `TIE` the one with the least GMSD.

    Each entry holds the method's key, the name of its setting, and the reason in words. Tasks that are not in the table
    do not count.
    """
    found: dict[str, dict[str, Any]] = {}
    held = {record["task"] for _, record in flat(records)}
    for kind in dict.fromkeys(task.kind for task in tasks().values()):
        on = [task.name for task in tasks().values() if task.kind == kind and task.name in held]
        scores: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for key, record in flat(records):
            row = record["row"]
            if record["task"] in on and "psnr" in row:
                scores.setdefault((key, row["name"]), []).append((row["psnr"], row["gmsd"]))
        psnr = {who: sum(p for p, _ in v) / len(v) for who, v in scores.items() if len(v) == len(on)}
        order = sorted(psnr, key=lambda who: -psnr[who])
        if len(order) < 2:
            continue
        equal = [who for who in order if psnr[who] > psnr[order[0]] - TIE]
        key, name = best = min(equal, key=lambda who: sum(g for _, g in scores[who]))
        other = order[1] if best == order[0] else order[0]
        edges = f", to {TIE:g} dB, and of those the least GMSD," if len(equal) > 1 else ""
        why = (
            f"{name}: best PSNR of {len({who[0] for who in psnr})} methods{edges} on {' and '.join(on)} in {TABLE} "
            f"({psnr[best]:.2f} dB; {other[1]}: {psnr[other]:.2f}); see docs/solvers.md."
        )
        found[kind] = {"key": key, "name": name, "why": why}
    return found
