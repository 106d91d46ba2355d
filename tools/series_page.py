"""Writes the figures of docs/series.md from benchmarks/data/series: tables, and what they come to. Run: `make docs`.

Between `<!-- figures -->` and `<!-- end -->` the page is made here; the rest is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs/series.md", ROOT / "benchmarks/data/series"
OURS = "sfumato"
SIMPLE = ("seasonal naive", "linear interpolation", "spline")
Scores = Mapping[str, Mapping[str, float]]


def figures() -> list[dict[str, Any]]:
    """The results of the sets that have been run."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(DATA.glob("*.json"))]
    return [one for one in found if "chosen" in one]


def table(task: str, sets: list[dict[str, Any]]) -> str:
    """One task on all sets: a row for each set and method."""
    head = "| set | method | CRPS | CRPS_sum | MAE | in 50 % | in 90 % | seconds |\n"
    lines = [head + "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for one in sets:
        rows = one["tasks"].get(task, {})
        for method, row in rows.items():
            if method != OURS and method.startswith(OURS) and row["crps"] == rows[OURS]["crps"]:
                continue  # no network was kept: the law alone is the same
            cells = [f"{row['crps']:.4f}", f"{row['crps_sum']:.4f}", f"{row['mae']:.4g}"]
            cells += [f"{row[k]:.1%}" if k in row else "" for k in ("cover50", "cover90")]
            lines.append(f"| {one['set']} | {method} | {' | '.join(cells)} | {row['seconds']:.1f} |")
    return "\n".join(lines)


def best(scores: Scores) -> str:
    """The method of the least CRPS; our own two count as one."""
    return (
        OURS
        if min(scores, key=lambda k: scores[k]["crps"]).startswith(OURS)
        else min(scores, key=lambda k: scores[k]["crps"])
    )


def verdict(sets: list[dict[str, Any]]) -> str:
    """What the tables come to, in sentences."""
    lines = []
    for task in dict.fromkeys(task for one in sets for task in one["tasks"]):
        held = [one for one in sets if task in one["tasks"]]
        beats = [one["set"] for one in held if _floor(one["tasks"][task])]
        wins = [one["set"] for one in held if best(one["tasks"][task]) == OURS]
        rest = [f"{one['set']} ({best(one['tasks'][task])})" for one in held if one["set"] not in wins]
        rows = {one["set"]: one["tasks"][task][OURS] for one in held}
        off = [
            f"{name} {row[key]:.0%} for {level} %"
            for name, row in rows.items()
            for key, level in (("cover50", 50), ("cover90", 90))
            if abs(100 * row[key] - level) > 3
        ]
        lines.append(
            f"- **{task}**: a better CRPS than the simple rules on {len(beats)} of {len(held)} sets, the best of all "
            f"on {len(wins)}{'; not on ' + ', '.join(rest) if rest else ''}. Coverage is more than 3 points off for: "
            f"{', '.join(off) or 'none'}."
        )
    return "\n".join(lines)


def choices(sets: list[dict[str, Any]]) -> str:
    """What the backtests chose, a row for each set and task."""
    lines = ["| set | task | trials | window | ridge | nugget | level | waves | tail | seconds |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in sets:
        for task, row in one["chosen"].items():
            kind = " and a line" if row.get("trend") else " for all" if row.get("shared") else ""
            cells = [f"{row['trials']:.0f}", str(row["window"]), f"{row['ridge']:g}{kind}"]
            cells += [f"{row[name]:g}" for name in ("floor", "level", "wave", "tail")]
            lines.append(f"| {one['set']} | {task} | {' | '.join(cells)} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def _floor(scores: Scores) -> bool:
    return all(scores[OURS]["crps"] < scores[name]["crps"] for name in SIMPLE if name in scores)


def page(text: str) -> str:
    """The page with its figures brought up to date."""
    before, _, rest = text.partition("<!-- figures -->")
    _, _, after = rest.partition("<!-- end -->")
    sets = figures()
    if not sets:
        return before + "<!-- figures -->\n\nNot run yet.\n\n<!-- end -->" + after
    parts = ["", verdict(sets), ""]
    parts += [choices(sets), ""]
    for task in dict.fromkeys(task for one in sets for task in one["tasks"]):
        parts += [f"### {task}", "", table(task, sets), ""]
    return before + "<!-- figures -->\n" + "\n".join(parts) + "\n<!-- end -->" + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
