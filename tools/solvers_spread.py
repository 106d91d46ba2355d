"""Draws docs/pictures/solvers-spread.png: how far solvers' samples spread, beside how far their mean is off.

    python tools/solvers_spread.py --root ROOT

One picture of photo12, half of its pixels lost, nineteen samples of each solver at the budget of the table. Top row:
the standard deviation of the samples; bottom row: the absolute error of their mean; one scale for all, dark is 0. A
solver whose top is darker than its bottom is too sure of itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

import sfumato as sf
from sfumato.bench.budget import budgeted
from sfumato.bench.pictures import CALLS, centre
from sfumato.bench.tasks import tasks
from sfumato.data.photo12 import photo12
from sfumato.demo.pictures import heat, image
from sfumato.processes import Table

SHOWN = ("DDNM, warm start", "DDNM", "PnP-DM", "FPS-SMC, one particle", "RED-diff")
PICTURE, SIDE, SAMPLES, TOP, ZOOM, GAP, HEAD = "coffee", 32, 19, 0.15, 3, 6, 20


def columns(root: Path) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """(name, standard deviation, absolute error of the mean) of each solver, mean over color, (SIDE, SIDE)."""
    model, task = sf.load("photo"), tasks()["inpaint-50"]
    x0 = centre({PICTURE: dict(photo12(root))[PICTURE]}, SIDE)
    z = task.measure(x0).to_model(model.codec)
    found = []
    for setting in budgeted(CALLS):
        if setting.name not in SHOWN or task.kind not in setting.kinds:
            continue
        denoiser = model.denoiser.with_process(Table.linear()) if setting.table else model.denoiser
        x = model.codec.decode(setting.make(z)(denoiser, z.repeat(SAMPLES), sf.Seeds(range(SAMPLES)))).clamp(0, 1)
        found.append((setting.name, x.std(0).mean(0), (x.mean(0) - x0[0]).abs().mean(0)))
        print(
            setting.name, f"spread {float(found[-1][1].mean()):.4f} error {float(found[-1][2].mean()):.4f}", flush=True
        )
    found.sort(key=lambda column: SHOWN.index(column[0]))
    shown = model.codec.decode(z.y) * z.operator.s + 0.5 * (1 - z.operator.s)  # type: ignore[attr-defined]
    draw(found, x0[0], shown[0].clamp(0, 1)).save(OUT, optimize=True)
    return found


def draw(found: list[tuple[str, torch.Tensor, torch.Tensor]], x0: torch.Tensor, y: torch.Tensor) -> Image.Image:
    """The sheet: the picture and what was seen of it, then a column for each solver."""
    cell = SIDE * ZOOM
    sheet = Image.new("RGB", ((len(found) + 1) * (cell + GAP) + GAP, HEAD + 2 * (cell + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    cells = [("the picture, and y", image(x0), image(y)), *((n, heat(s, TOP), heat(e, TOP)) for n, s, e in found)]
    for i, (name, above, below) in enumerate(cells):
        left = GAP + i * (cell + GAP)
        pen.text((left + cell / 2, HEAD / 2), name.replace(" start", ""), "black", font, anchor="mm")
        for row, part in enumerate((above, below)):
            sheet.paste(part.resize((cell, cell), Image.Resampling.NEAREST), (left, HEAD + row * (cell + GAP)))
    return sheet


OUT = Path(__file__).parent.parent / "docs" / "pictures" / "solvers-spread.png"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    columns(parser.parse_args().root)
    print(OUT)
