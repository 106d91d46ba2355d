"""Writes docs/solvers.md and src/sfumato/zoo/chosen.json from the tables of benchmarks/data: no number by hand.

    sfumato bench solvers --world all -o benchmarks/data/solvers_world.json
    sfumato bench solvers --images --root ROOT -o benchmarks/data/solvers_photo12.json
    sfumato bench solvers --images --papers --root ROOT --draws 4 --task inpaint-50 --task enlarge-4 \
        --task deblur-gaussian --task colorize -o benchmarks/data/solvers_papers.json
    sfumato bench solvers --images --root ROOT --samples 8 --task inpaint-50 --task enlarge-4 \
        --task deblur-gaussian --task colorize -o benchmarks/data/solvers_calibration.json
    python tools/solvers_page.py

A cut run of the first four goes on where it stopped; `--solver KEY` makes a part of a table. `--check` writes nothing
and fails where a file is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sfumato.bench import choice, records
from sfumato.bench.exact import FLOOR
from sfumato.bench.tasks import tasks
from sfumato.bench.worlds import instances

ROOT = Path(__file__).parent.parent
DATA = ROOT / "benchmarks" / "data"
PAGE = ROOT / "docs" / "solvers.md"
CHOSEN = ROOT / "src" / "sfumato" / "zoo" / "chosen.json"
LEVELS = {"half": 0.5, "most": 0.9}
SLACK = 0.05  # how far from its level a coverage may be and count as honest, beyond two standard errors

Rows = list[tuple[str, dict[str, Any]]]


def page(
    worlds: records.Records, photos: records.Records, papers: records.Records, calibration: records.Records
) -> str:
    """The text of docs/solvers.md."""
    parts = [
        "# Solvers, measured",
        "Written by `tools/solvers_page.py` from `benchmarks/data`; do not edit. Its head has the commands.",
        "## What `restore` takes",
        _choices(choice.chosen(photos)),
        "## On photographs",
        _photographs(photos),
        "## At the settings of the papers",
        _papers(papers),
        "## Against exact posteriors",
        _worlds(worlds),
        "## Whose spread can be trusted",
        _trust(worlds, calibration),
        "![Standard deviation of samples, by solver](pictures/solvers-spread.png)",
        "Standard deviation of nineteen samples from half of the pixels, one scale for all, and beside it the error of "
        "their mean: `python tools/solvers_spread.py --root ROOT`.",
    ]
    return "\n\n".join(parts) + "\n"


def _choices(found: dict[str, dict[str, Any]]) -> str:
    lines = [f"- {kind}: {entry['why']}" for kind, entry in found.items()]
    lead = (
        "Where no solver is named, a picture gets the method with the best PSNR of one sample. A warm start is ours: "
        "the steps of the method from the linear estimate, noised to a level (`solvers.Warm`). Denoising is one call "
        "of the network for one sample, and its sampler from the level of the noise down for several."
    )
    return "\n".join([lead, "", *lines])


def _photographs(photos: records.Records) -> str:
    rows: Rows = list(records.flat(photos))
    first = rows[0][1]["row"]
    parts = [
        f"The central {first['side']} x {first['side']} pixels of the {first['pictures']} pictures of photo12 "
        f"(`sfumato.data.photo12`), the shipped model `photo`, about {first['calls']} network calls for each sample, "
        f"{first['samples']} sample of each: far fewer calls than most papers spend, so this says who does well with "
        "little. PSNR in dB, SSIM, GMSD (gradient magnitude similarity deviation: edges, less is better), misfit (root "
        "mean square of y - A x, over sigma where there is noise: 1 is right), calls, seconds for all pictures on one "
        "core of a busy machine (an order of magnitude), MiB beyond what the model holds. A method is run on the tasks "
        "that it claims."
    ]
    return "\n\n".join([*parts, *_tables(rows)])


def _papers(papers: records.Records) -> str:
    rows: Rows = list(records.flat(papers))
    first = rows[0][1]["row"]
    lead = (
        f"The same for the first {first['pictures']} pictures with every method at the settings of its own paper "
        "(`sfumato.bench.published`): so a method that does badly above for want of calls is seen to restore, and at "
        "which price. Rows of the two sections do not compare: the pictures are fewer here."
    )
    return "\n\n".join([lead, *_tables(rows)])


def _tables(rows: Rows) -> list[str]:
    """A table for each task, best PSNR first, failures last."""
    parts = []
    for name, task in tasks().items():
        mine = [(key, r["row"]) for key, r in rows if r["task"] == name]
        if not mine:
            continue
        mine.sort(key=lambda pair: -pair[1].get("psnr", -1e9))
        parts.append(f"**{name}**: {task.title}")
        lines = ["| method | PSNR | SSIM | GMSD | misfit | calls | seconds | MiB |", "| --- |" + " ---: |" * 7]
        for _, row in mine:
            if "failed" in row:
                lines.append(f"| {row['name']} | failed: {row['failed'].split(': ')[0]} | | | | | | |")
                continue
            cells = (_number(row[k], d) for k, d in _COLUMNS)
            lines.append(f"| {row['name']} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return parts


_COLUMNS = (("psnr", 2), ("ssim", 3), ("gmsd", 3), ("misfit", 3), ("nfe", 0), ("seconds", 1), ("megabytes", 0))


def _worlds(worlds: records.Records) -> str:
    rows: Rows = list(records.flat(worlds))
    first = rows[0][1]["row"]
    parts = [
        f"{first['draws']} measurements of each problem (`sfumato.bench.worlds`), {first['samples']} samples of each, "
        "the exact denoiser. mean: error of the mean in posterior standard deviations; seen and hidden: variance over "
        "the posterior's where A sees and where it does not (medians); sliced: sliced 2-Wasserstein distance in "
        "posterior standard deviations; weights: total variation of the weights of the modes; 50 % and 90 %: share of "
        "the truth inside the central intervals. Exact samples are the floor of every column. ±: standard errors."
    ]
    for name, instance in instances().items():
        mine = [(key, r["row"]) for key, r in rows if r["world"] == name]
        if not mine:
            continue
        mine.sort(key=lambda pair: (pair[0] != FLOOR, pair[1]["sliced"]["value"]))
        parts.append(f"**{name}**: {instance.title}")
        lines = [
            "| method | mean | seen | hidden | sliced | weights | 50 % | 90 % | calls |",
            "| --- |" + " ---: |" * 8,
        ]
        for _, row in mine:
            cells = [f"{row[k]['value']:.2f}" for k in ("mean", "seen", "hidden", "sliced", "weights", "half", "most")]
            cells[0] += f" ± {row['mean']['error']:.2f}"
            cells[2] += f" ± {row['hidden']['error']:.2f}"
            lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['nfe']} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _trust(worlds: records.Records, calibration: records.Records) -> str:
    lead = (
        "Coverage of the central 50 % and 90 % intervals by the truth (`metrics.coverage`, `Result.coverage`). "
        "On worlds: the problem where it is furthest from its level. *honest*: within "
        f"{SLACK:g} and two standard errors of both levels on every problem; *narrow*, *wide*: the truth falls outside "
        "too often, or too seldom. Coverage alone does not see a narrow range beside a wide null space: read it with "
        "the ratios above."
    )
    seen: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, record in records.flat(worlds):
        seen.setdefault((key, record["row"]["name"]), []).append({**record["row"], "world": record["world"]})
    lines = ["| method | problem | 50 % | 90 % | verdict |", "| --- | --- | ---: | ---: | --- |"]
    order = sorted(seen.items(), key=lambda pair: (pair[0][0] != FLOOR, max(_off(row)[0] for row in pair[1])))
    for (_, name), found in order:
        worst = max(found, key=lambda row: _off(row)[0])
        cells = " | ".join(f"{worst[k]['value']:.2f}" for k in LEVELS)
        lines.append(f"| {name} | {worst['world']} | {cells} | {_off(worst)[1]} |")
    parts = [lead, "\n".join(lines)]
    if calibration:
        parts += _on_photographs(worlds, calibration)
    return "\n\n".join(parts)


def _on_photographs(worlds: records.Records, calibration: records.Records) -> list[str]:
    """The table of coverage on photographs, and a sentence for every method."""
    some = next(iter(records.flat(calibration)))[1]["row"]
    top = min(LEVELS["most"], (some["samples"] - 1) / (some["samples"] + 1))
    rows = sorted(
        ((r["task"], r["row"]) for _, r in records.flat(calibration) if "half" in r["row"]),
        key=lambda pair: (pair[0], abs(pair[1]["most"] - top)),
    )
    lines = ["| task | method | 50 % | 90 % | PSNR | of the mean |", "| --- | --- |" + " ---: |" * 4]
    lines += [
        f"| {task} | {row['name']} | " + " | ".join(f"{row[k]:.2f}" for k in (*LEVELS, "psnr", "psnr_mean")) + " |"
        for task, row in rows
    ]
    said = []
    for key, found in sorted(calibration.items()):
        for name in dict.fromkeys(r["row"]["name"] for r in found):
            most = [r["row"]["most"] for r in found if r["row"]["name"] == name and "most" in r["row"]]
            if most:
                said.append(f"- {name}: {_exactly(worlds.get(key, []))}; {_really(most, top)}.")
    return [
        f"On photographs ({some['pictures']} of photo12, {some['side']} x {some['side']}, {some['samples']} samples, "
        f"{some['calls']} calls each); PSNR of one sample and of the mean. The interval from the least to the greatest "
        f"of {some['samples']} samples holds the truth {top:.2f} of the time if they are honest, so that is what the "
        "column of 90 % can reach:",
        "\n".join(lines),
        f"Who can be trusted, on the worlds and on photographs (within {SLACK:g} on every task):",
        "\n".join(said),
    ]


def _exactly(found: list[dict[str, Any]]) -> str:
    """What the worlds say of a method."""
    by: dict[str, list[tuple[float, str]]] = {}
    for record in found:
        by.setdefault(record["row"]["name"], []).append(_off(record["row"]))
    verdicts = {name: max(offs)[1] for name, offs in by.items()}
    honest = [name for name, verdict in verdicts.items() if verdict == "honest"]
    if not verdicts:
        return "not held against exact posteriors"
    if honest:
        return "honest on exact worlds as " + " and as ".join(f"*{name}*" for name in honest)
    return "on exact worlds " + " or ".join(sorted(set(verdicts.values())))


def _really(most: list[float], top: float) -> str:
    """What photographs say: the coverages of a method on the tasks, of which `top` is honest."""
    low, high = min(most), max(most)
    verdict = "too sure" if low < top - SLACK else "too unsure" if high > top + SLACK else "to be trusted"
    return f"on photographs {verdict} ({low:.2f} to {high:.2f} for {top:.2f})"


def _off(row: dict[str, Any]) -> tuple[float, str]:
    """How far a row's coverages are from their levels beyond what counts as honest, and the verdict."""
    gaps = {k: row[k]["value"] - level for k, level in LEVELS.items()}
    over = {k: abs(gap) - SLACK - 2.0 * row[k]["error"] for k, gap in gaps.items()}
    worst = max(over, key=lambda k: over[k])
    return over[worst], "honest" if over[worst] <= 0.0 else "narrow" if gaps[worst] < 0.0 else "wide"


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.0e}"


def outputs() -> dict[Path, str]:
    """The text of both files."""
    names = ("solvers_world", "solvers_photo12", "solvers_papers", "solvers_calibration")
    worlds, photos, papers, calibration = (records.read(DATA / f"{name}.json") for name in names)
    found = json.dumps(choice.chosen(photos), indent=1, ensure_ascii=False) + "\n"
    return {PAGE: page(worlds, photos, papers, calibration), CHOSEN: found}


if __name__ == "__main__":
    for path, text in outputs().items():
        if "--check" in sys.argv:
            if path.read_text("utf-8") != text:
                sys.exit(f"{path.relative_to(ROOT)} is stale: run tools/solvers_page.py")
            continue
        path.write_text(text, "utf-8")
        print(path.relative_to(ROOT))
