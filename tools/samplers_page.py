"""Writes docs/samplers.md from the tables of benchmarks/data: no number by hand.

    sfumato bench samplers -o benchmarks/data/samplers.csv --figure docs/pictures/samplers.png
    python benchmarks/sampling.py --peers PEERS -o benchmarks/data/sampling.json
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
        "## Beside the network's calls alone",
        _cost(json.loads((DATA / "sampling.json").read_text("utf-8"))),
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


def _cost(found: dict[str, Any]) -> str:
    """Ratios to the floor by loop and size, and the pipelines on networks of their own."""
    rows, bar = found["rows"], found["bar"]
    sizes = {row["size"]: row["weights"] for row in rows}
    shared = [size for size in sizes if any(r["size"] == size and r["loop"].startswith("sfumato") for r in rows)]
    cells = {(row["loop"], row["size"], row["batch"]): row for row in rows}
    columns = [(size, batch) for size in shared for batch in dict.fromkeys(row["batch"] for row in rows)]
    head = "".join(f" {sizes[size] / 1e6:.2g}M, {batch} |" for size, batch in columns)
    lines = [f"| loop |{head} memory |", "| --- |" + " ---: |" * (len(columns) + 1)]
    for loop in dict.fromkeys(row["loop"] for row in rows if row["size"] in shared):
        held = [cells[loop, *column] for column in columns]
        ratios = "".join(f" {row['ratio']:.3f} |" for row in held)
        lines.append(f"| {loop} |{ratios} {max(row['memory'] for row in held):.2f} |")
    mine = [row for row in rows if row["loop"].startswith("sfumato")]
    over = [f"{row['loop']}, {row['weights'] / 1e6:.2g}M, {row['batch']} ({row['ratio']:.3f})" for row in mine
            if row["ratio"] > bar]  # fmt: skip
    met = f"is met by ours in {len(mine) - len(over)} of {len(mine)} cells" + (
        f"; not in {'; '.join(over)}" if over else ""
    )
    own = ["| pipeline | million weights | batch | images a second | of the floor | memory |",
           "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in rows:
        if row["loop"] == "sfumato Model.sample" or row["size"] not in shared:
            own.append(
                f"| {row['loop']} | {row['weights'] / 1e6:.2f} | {row['batch']} | {row['images_per_second']:.2f} | "
                f"{row['ratio']:.3f} | {row['memory']:.2f} |"
            )
    where = (
        "" if found["device"] == "cuda" else " No GPU was at hand: the same program runs there with `--device cuda`."
    )
    return "\n\n".join(
        [
            f"Time of {found['calls']} steps over the time of as many calls of the same network on the same batch, in "
            f"one run ({found['machine']}; `benchmarks/sampling.py`); columns are the weights of the network and the "
            "batch, of 32 x 32 pictures, and loops of other libraries run on the same networks. `Model.sample` has "
            "`Arc`, a stream of noise for each sample and the codec. Memory is the most that is held, over that of the "
            f"calls alone. What a loop adds was timed with a network that costs nothing.{where}",
            "\n".join(lines),
            f"The bar, {bar:.2f}, {met}.",
            "Whole pipelines, from noise to pictures, each on its own library's network:",
            "\n".join(own),
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(cells(), peers()), "utf-8")
