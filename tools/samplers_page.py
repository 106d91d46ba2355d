"""Writes docs/samplers.md from the tables of benchmarks/data: no number by hand.

    sfumato bench samplers -o benchmarks/data/samplers.csv --figure docs/pictures/samplers.png
    python tools/samplers_page.py

benchmarks/data/peers_samplers.json holds the best of other libraries, each on the grid that suits it best in each cell.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from sfumato.bench.samplers import RIVALS

ROOT = Path(__file__).parent.parent
DATA = ROOT / "benchmarks" / "data"
PAGE = ROOT / "docs" / "samplers.md"
SHOWN = (5, 10, 20, 50)
OURS = RIVALS[0].name
DDIM = "DDIM, default grid"

Cells = dict[tuple[str, str, int], dict[str, float]]


def cells() -> Cells:
    """Errors of our samplers by (world, process, calls), then by name."""
    found: Cells = {}
    with open(DATA / "samplers.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["world"], row["process"], int(row["nfe"])
            found.setdefault(key, {})[row["sampler"]] = float(row["rms"])
    return found


def peers() -> dict[tuple[str, str, int], dict[str, Any]]:
    """The best of other libraries by (world, process, calls)."""
    rows = json.loads((DATA / "peers_samplers.json").read_text("utf-8"))["rows"]
    return {(row["world"], row["process"], row["nfe"]): row for row in rows}


def page(ours: Cells, others: dict[tuple[str, str, int], dict[str, Any]]) -> str:
    """The text of docs/samplers.md."""
    parts = [
        "# Samplers, measured",
        "Written by `tools/samplers_page.py` from `benchmarks/data`; do not edit. Its head has the commands.",
        "`sfumato sample` and `model.sample` take `Arc` on `grids.default` where nothing else is asked for: one choice "
        "for every process and number of calls. Its one constant, the radius, is the spread that the data are taken to "
        "have, 1 in model space, and none is tuned to the worlds below. Errors are root mean squares of the distance "
        "to the end of the exact flow from the same 64 starts, by the calls of the exact denoiser; worlds are "
        "8 modes in 2 and in 64 dimensions, a correlated normal law in 16, and two narrow modes in one.",
        "![Error against calls](pictures/samplers.png)",
        "## Beside other libraries",
        json.loads((DATA / "peers_samplers.json").read_text("utf-8"))["what"],
        _beside(ours, others),
        _verdict(ours, others),
        "## Beside DDIM on the same grid",
        _ddim(ours),
        "## Every sampler",
        _all(ours),
    ]
    return "\n\n".join(parts) + "\n"


def _beside(ours: Cells, others: dict[tuple[str, str, int], dict[str, Any]]) -> str:
    lines = ["| world | process | " + " | ".join(f"{n} calls" for n in SHOWN) + " |", "| --- | --- |" + " --- |" * 4]
    for world, process in dict.fromkeys(key[:2] for key in ours):
        row = []
        for n in SHOWN:
            best = others.get((world, process, n))
            row.append(f"{ours[world, process, n][OURS]:.2g}" + (f" / {best['rms']:.2g}" if best else ""))
        lines.append(f"| {world} | {process} | {' | '.join(row)} |")
    return "Ours / the best of theirs.\n\n" + "\n".join(lines)


def _verdict(ours: Cells, others: dict[tuple[str, str, int], dict[str, Any]]) -> str:
    both = [key for key in others if key in ours]
    behind = [key for key in both if ours[key][OURS] > others[key]["rms"]]
    said = [
        f"- {world}, {process}, {n} calls: {ours[world, process, n][OURS]:.2g} against "
        f"{others[world, process, n]['rms']:.2g} ({others[world, process, n]['by']})."
        for world, process, n in behind
    ]
    lead = f"The default is ahead in {len(both) - len(behind)} of the {len(both)} cells where both were run"
    return (
        lead
        + (":" if not behind else "; it is behind in these:\n\n" + "\n".join(said)).removesuffix(":")
        + ("." if not behind else "")
    )


def _ddim(ours: Cells) -> str:
    keys = [key for key in ours if DDIM in ours[key]]
    worse = [key for key in keys if ours[key][OURS] > ours[key][DDIM]]
    said = "; ".join(
        f"{w}, {p}, {n} calls ({ours[w, p, n][OURS]:.2g} against {ours[w, p, n][DDIM]:.2g})" for w, p, n in worse
    )
    return (
        f"The default is at least as accurate in {len(keys) - len(worse)} of {len(keys)} cells, from 4 to 256 calls"
        + (f". Not in: {said}." if worse else ".")
    )


def _all(ours: Cells) -> str:
    """Geometric means over processes, one line for a world and a sampler."""
    lines = ["Geometric means over the processes.", ""]
    lines += ["| world | sampler | " + " | ".join(f"{n} calls" for n in SHOWN) + " |", "| --- | --- |" + " --- |" * 4]
    for world in dict.fromkeys(key[0] for key in ours):
        for rival in RIVALS:
            row = []
            for n in SHOWN:
                held = [one[rival.name] for key, one in ours.items() if key[0] == world and key[2] == n]
                row.append(f"{math.exp(sum(math.log(value) for value in held) / len(held)):.2g}")
            lines.append(f"| {world} | {rival.name} | {' | '.join(row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(cells(), peers()), "utf-8")
