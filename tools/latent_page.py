"""Writes the figures of docs/latent.md, and of the model's card, from benchmarks/data/latent.json. Run: `make docs`.

Between `<!-- figures -->` and `<!-- end -->` the pages are made here; the rest is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs/latent.md", ROOT / "benchmarks/data/latent.json"
CARD = ROOT / "src/sfumato/zoo/latent/README.md"


def tables(result: dict[str, Any]) -> str:
    """PSNR of every method at every task, then SSIM, misfit, weight and seconds of each."""
    tasks = result["tasks"]
    methods = list(next(iter(tasks.values())))
    lines = [f"| PSNR, dB | space | {' | '.join(tasks)} |", f"| --- | --- | {' | '.join('---:' for _ in tasks)} |"]
    for name in methods:
        rows = [tasks[task][name] for task in tasks]
        psnr = " | ".join(f"{row['psnr']:.2f} ± {row['error']:.2f}" for row in rows)
        lines.append(f"| {name} | {space(rows[0])} | {psnr} |")
    lines += ["", "| method | SSIM | misfit | weights | calls | seconds a picture |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in methods:
        rows = [tasks[task][name] for task in tasks]
        weights = ", ".join("" if row["weight"] is None else f"{row['weight']:g}" for row in rows).strip(", ")
        cells = [", ".join(f"{row[key]:.{n}f}" for row in rows) for key, n in (("ssim", 2), ("misfit", 1))]
        seconds = sum(row["seconds"] for row in rows) / len(rows)
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {weights} | {rows[0]['calls']} | {seconds:.2f} |")
    return "\n".join(lines)


def space(row: dict[str, Any]) -> str:
    """Where a method works, in words."""
    return "codes" if row["space"] == "latent" else "pixels"


def verdict(result: dict[str, Any]) -> str:
    """What the tables come to."""
    lines = []
    for task, rows in result["tasks"].items():
        best = {
            where: max((n for n in rows if space(rows[n]) == where), key=lambda n: rows[n]["psnr"])
            for where in ("codes", "pixels")
        }
        gap = rows[best["pixels"]]["psnr"] - rows[best["codes"]]["psnr"]
        lines.append(
            f"- {task}: in codes {best['codes']}, {rows[best['codes']]['psnr']} dB; in pixels {best['pixels']}, "
            f"{rows[best['pixels']]['psnr']} dB, {abs(gap):.1f} dB {'more' if gap >= 0 else 'less'}."
        )
    return "\n".join(lines)


def figures(result: dict[str, Any]) -> str:
    """The generated part of the page."""
    return f"""\
{result["pictures"]} test pictures, noise {result["sigma"]} of the range, {result["calls"]} calls of the network, one
sample of each. **{coded(result)}:
about what a method in its space can reach at best.** The misfit is the mean square of y - A x over the variance of its
noise, 1 for the truth.

{tables(result)}

SSIM, misfit and weights in the order of the tasks above.

{verdict(result)}

![Rows: the tasks. Columns: the picture, what was seen of it, the autoencoder's copy, then the methods in the order of
the table.](pictures/latent.png)"""


def coded(result: dict[str, Any]) -> str:
    """What the autoencoder keeps."""
    kept = result["autoencoder"]
    return (
        f"The autoencoder alone, picture to code and back, reaches {kept['psnr']} dB (± {kept['error']}; SSIM "
        f"{kept['ssim']}) on {result['coded']} test pictures"
    )


def filled(page: Path, made: str) -> str:
    """A page with its figures brought up to date."""
    before, rest = page.read_text("utf-8").split("<!-- figures -->")
    return f"{before}<!-- figures -->\n{made}\n<!-- end -->{rest.split('<!-- end -->')[1]}"


def main() -> None:
    """Writes both."""
    page, card = "**Not measured yet.**", "**Not measured yet.**"
    if DATA.exists():
        result = json.loads(DATA.read_text("utf-8"))
        page = figures(result)
        card = (
            f"{coded(result)}. Restored through it, one sample, and through `fashion` in pixels:\n\n{verdict(result)}"
        )
    for path, made in ((PAGE, page), (CARD, card)):
        path.write_text(filled(path, made), "utf-8")


if __name__ == "__main__":
    main()
