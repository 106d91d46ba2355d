"""What the benchmarks of small pictures share: options, data in memory, results and sheets of pictures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import sfumato
from sfumato.data.labelled import Labelled


class Rows:
    """Pictures in memory as training data."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, items: list[int], noise: sfumato.Seeds) -> tuple[Tensor, None]:
        """(x0, None)."""
        return self.x[items], None


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with --root, --out and --picture."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages are unpacked")
    parser.add_argument("--out", type=Path, required=True, help="the figures, JSON")
    parser.add_argument("--picture", type=Path, help="samples, PNG")
    parser.add_argument("--figures", type=Path, help="folder of the figures KEY.json that the documentation prints")
    parser.set_defaults(began=time.perf_counter())
    return parser


def halved(data: Labelled, count: int | None = None) -> Tensor:
    """The first `count` pictures at half their size, in [-1, 1]."""
    x, _ = data.batch(list(range(count or len(data))), None)  # type: ignore[arg-type]  # nothing is drawn
    return F.avg_pool2d(x, 2)


def write(args: argparse.Namespace, result: dict[str, Any], *, quiet: bool = False) -> None:
    """The figures, with minutes and version, to --out and, unless `quiet`, to the terminal."""
    whole = {**result, "minutes": round((time.perf_counter() - args.began) / 60, 1), "sfumato": sfumato.__version__}
    text = json.dumps(whole, indent=1) + "\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, "utf-8")
    if not quiet:
        print(text)


def keep(args: argparse.Namespace, key: str, data: str, figure: str, *, more: str = "") -> None:
    """The sentence that the documentation prints of a method, where --figures names its folder."""
    if args.figures is None:
        return
    command = f"python benchmarks/{Path(sys.argv[0]).name} --root ROOT{more} --out OUT.json"
    minutes = round((time.perf_counter() - args.began) / 60, 1)
    line = {"data": data, "figure": figure, "command": command, "minutes": minutes}
    args.figures.mkdir(parents=True, exist_ok=True)
    (args.figures / f"{key}.json").write_text(json.dumps(line, indent=1) + "\n", "utf-8")


def gained(values: Tensor) -> str:
    """'+m +- e': the mean of gains and its standard error."""
    return f"{float(values.mean()):+.2f} +- {float(values.std() / len(values) ** 0.5):.2f}"


def sheet(path: Path | None, rows: list[list[Tensor]], factor: int = 1) -> None:
    """Pictures in [0, 1], (3 or 1, H, W), rows of them of one size, with a white line between, to a PNG."""
    if path is None:
        return
    cells = [
        torch.cat([F.pad(x.detach().expand(3, -1, -1).clamp(0, 1), (1, 1, 1, 1), value=1.0) for x in row], 2)
        for row in rows
    ]
    pixels = (torch.cat(cells, 1).permute(1, 2, 0) * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST).save(
        path, optimize=True
    )


def show(path: Path | None, rows: Tensor, factor: int) -> None:
    """Pictures in [-1, 1], (rows, columns, H, W), side by side with a grey line between, enlarged, to a PNG."""
    if path is None:
        return
    grid = F.pad(rows.clamp(-1, 1), (1, 1, 1, 1), value=-0.5).permute(0, 2, 1, 3)
    levels = ((grid.reshape(grid.shape[0] * grid.shape[1], -1) + 1) * 127.5).round().to(torch.uint8)
    picture = Image.fromarray(levels.numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST).save(path)
