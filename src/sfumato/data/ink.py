"""Strokes of a pen: hanzi-writer JSON and KanjiVG SVG to sequences (dx, dy, pen up), and SVG of those.

A step is an offset and a flag, 1 where *this* offset is travelled with the pen up, as Luhman and Luhman have it; y
points down. Steps that a sequence lacks are zero offsets with the pen up. The strokes of both packages are templates,
one writing of each character by no one's hand: `jitter` is what variety there is.
"""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.codecs import Channels
from sfumato.data.files import below, beside, present
from sfumato.noise import Seeds

SUFFIXES = (".json", ".svg")
TOP = 900.0  # of hanzi-writer's square, whose y points up
CURVE = 12  # points of a Bezier curve, before strokes are resampled
PATH = re.compile(r"[A-Za-z]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
TAKES = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "Z": 0}  # numbers of a command

Strokes = list[NDArray[np.float64]]


def read_strokes(path: str | Path) -> Strokes:
    """The strokes of a character in their order, (points, 2) each, y down: of a hanzi-writer or a KanjiVG file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is empty, damaged, or of another format.
    """
    path = present(Path(path))
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"strokes are hanzi-writer .json or KanjiVG .svg files, got {path.name}.")
    try:
        text = path.read_text("utf-8")
        strokes = _medians(text) if path.suffix.lower() == ".json" else _paths(text)
    except (ValueError, KeyError, TypeError, IndexError, ElementTree.ParseError) as error:
        raise ValueError(f"{path} is damaged or holds no strokes ({type(error).__name__}: {error}).") from None
    if not strokes or not all(np.isfinite(stroke).all() for stroke in strokes):
        raise ValueError(f"{path} is damaged or holds no strokes.")
    return strokes


def character(path: Path) -> str:
    """The character of a file: its name, or of KanjiVG the code point that its name is, in hexadecimal."""
    name = path.stem
    if path.suffix.lower() == ".svg" and re.fullmatch(r"[0-9a-fA-F]{5}", name):
        return chr(int(name, 16))
    return name


def offsets(strokes: Strokes, steps: int, length: int) -> NDArray[np.float64]:
    """(3, length): `steps` offsets dx, dy with their flags, and then zeros with the pen up.

    Strokes are resampled to equal steps along each; each gets 2 points and its share, by arc length, of the others.

    Raises:
        ValueError: where there are too few steps for the strokes, or more than `length`.
    """
    least = 2 * len(strokes) - 1
    if not least <= steps <= length:
        raise ValueError(f"{len(strokes)} strokes take {least} steps or more, and at most {length}, got {steps}.")
    arcs = [_arc(stroke) for stroke in strokes]
    ends = np.cumsum([0.0, *(arc[-1] for arc in arcs)]) / max(sum(arc[-1] for arc in arcs), 1e-300)
    extra = np.diff(np.rint(ends * (steps - least))).astype(int)
    points = [
        np.stack([np.interp(np.linspace(0.0, arc[-1], 2 + more), arc, axis) for axis in stroke.T])
        for stroke, arc, more in zip(strokes, arcs, extra, strict=True)
    ]
    row = np.zeros((3, length))
    row[2] = 1.0
    joined = np.diff(np.concatenate(points, 1))
    row[:2, : joined.shape[1]] = joined
    row[2, : joined.shape[1]] = 0.0
    row[2, np.cumsum([part.shape[1] for part in points])[:-1] - 1] = 1.0
    return row


class Ink:
    """Characters as training data: items (3, length) in model space, offsets divided by their standard deviation.

    Args:
        characters: the strokes of each.
        length: of an item, a multiple of 8; three quarters of it are steps, more where the strokes need them.
        labels: what each is, by number; names: what they are called.
        jitter: each draw is moved by the matrix I + jitter N, N of four standard normal numbers (ours).

    Raises:
        ValueError: for a length that does not fit, or strokes without extent.
    """

    def __init__(
        self,
        characters: list[Strokes],
        length: int = 64,
        *,
        labels: list[int] | None = None,
        names: tuple[str, ...] = (),
        jitter: float = 0.08,
    ) -> None:
        if length < 8 or length % 8:
            raise ValueError(f"the length of a sequence is a multiple of 8, got {length}: --size is one.")
        if not characters:
            raise ValueError("there are no strokes to train on.")
        rows = [offsets(c, max(3 * length // 4, 2 * len(c) - 1), length) for c in characters]
        self.rows, self.event, self.jitter = torch.from_numpy(np.stack(rows)), (3, length), jitter
        used = self.rows[:, :2][((self.rows[:, :2] != 0) | (self.rows[:, 2:] == 0)).expand(-1, 2, -1)]
        spread = math.sqrt(float(used.square().mean())) if len(used) else 0.0
        if not spread > 0.0:
            raise ValueError("all strokes are points: there is nothing to learn.")
        self.codec = Channels((spread, spread, 1.0), (0.0, 0.0, 0.0))
        self.names, self.labels = names, None if labels is None else torch.tensor(labels)

    @classmethod
    def read(cls, path: str | Path, length: int = 64, *, classes: bool = False) -> Ink:
        """The files below a folder, in the order of their names; with `classes` each character is a class.

        Raises:
            FileNotFoundError: if there is none.
        """
        files = inks(Path(path))
        if not files:
            raise FileNotFoundError(f"there are no strokes below {path}: hanzi-writer .json or KanjiVG .svg files.")
        strokes = [(file, read_strokes(file)) for file in files]
        kept = [(file, s) for file, s in strokes if 2 * len(s) - 1 <= length]
        if not kept:
            raise ValueError(f"every character below {path} has too many strokes for {length} steps: --size is more.")
        found = [character(file) for file, _ in kept]
        names = tuple(sorted(set(found))) if classes else ()
        labels = [names.index(name) for name in found] if classes else None
        return cls([s for _, s in kept], length, labels=labels, names=names)

    def fields(self, few: bool) -> dict[str, Any]:
        """Fields of the recipe that such data decide, or suggest: a third of the paper's widths (ours)."""
        return {"classes": len(self.names), "length": self.event[1], "widths": (48, 64, 96, 128)}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Tensor | None]:
        """(x0, cond): (B, 3, length) float32 in model space; labels (B,), or None."""
        moved = torch.eye(2, dtype=torch.float64) + self.jitter * noise.normal(self.rows.new_empty(len(items), 2, 2))
        x = self.rows[items].clone()
        x[:, :2] = moved @ x[:, :2]
        return self.codec.encode(x).float(), None if self.labels is None else self.labels[items]


def inks(path: Path) -> list[Path]:
    """The .json and .svg files below a folder, sorted, hidden ones and hanzi-writer's own lists left out."""
    return [file for file in below(path, SUFFIXES) if file.name not in ("package.json", "all.json")]


def hanzi(root: Path, characters: str) -> list[Strokes]:
    """The strokes of these characters from the npm package hanzi-writer-data (Arphic Public License), below `root`.

    Raises:
        FileNotFoundError: with the package to unpack, or the characters that it lacks.
    """
    return _named(
        root,
        {c: f"{c}.json" for c in characters},
        ("package", "node_modules/hanzi-writer-data", "."),
        "`npm pack hanzi-writer-data@2.0.1`, `tar xzf` it, name its folder",
    )


def kanjivg(root: Path, characters: str) -> list[Strokes]:
    """The strokes of these characters, Latin and kana too, from the Python package kanjivg (CC-BY-SA-3.0).

    Raises:
        FileNotFoundError: with the package to unpack, or the characters that it lacks.
    """
    names = {c: f"{ord(c):05x}.svg" for c in characters}
    return _named(root, names, ("kanji",), "`pip download --no-deps kanjivg`, `unzip` the wheel, name its folder")


def write_svg(path: Path, x: Tensor, *, width: float = 0.5) -> None:
    """Draws a sequence (3, L): steps with a flag of 0.5 or less are ink, others are travelled with the pen up.

    Args:
        width: of the pen, as a share of the mean length of a step of ink.
    """
    steps = x.detach().cpu().double()
    at = torch.cat([torch.zeros(2, 1, dtype=torch.float64), steps[:2].cumsum(1)], 1).T.tolist()
    down = (steps[2] <= 0.5).tolist()
    parts, last = [], -1
    for i, ink in enumerate(down):
        if ink:
            parts += [] if last == i else [f"M{at[i][0]:.3f},{at[i][1]:.3f}"]
            parts.append(f"L{at[i + 1][0]:.3f},{at[i + 1][1]:.3f}")
            last = i + 1
    drawn = [place for i, ink in enumerate(down) if ink for place in (at[i], at[i + 1])] or [[0.0, 0.0]]
    lengths = [math.dist(at[i], at[i + 1]) for i, ink in enumerate(down) if ink] or [1.0]
    pen = max(width * sum(lengths) / len(lengths), 1e-3)
    low = [min(place[axis] for place in drawn) - 2.0 * pen for axis in (0, 1)]
    size = [max(place[axis] for place in drawn) + 2.0 * pen - low[axis] for axis in (0, 1)]
    box = " ".join(f"{value:.3f}" for value in (*low, *size))
    with beside(path) as part:
        part.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">\n<path d="{" ".join(parts)}" fill="none" '
            f'stroke="black" stroke-width="{pen:.3f}" stroke-linecap="round" stroke-linejoin="round"/>\n</svg>\n',
            "utf-8",
        )


def _named(root: Path, names: dict[str, str], folders: tuple[str, ...], how: str) -> list[Strokes]:
    folder = next((root / name for name in folders if any((root / name).glob("*.*"))), None)
    if folder is None:
        raise FileNotFoundError(f"{root} holds no such package: {how}.")
    if missing := [c for c, file in names.items() if not (folder / file).exists()]:
        raise FileNotFoundError(f"{folder} has no strokes of {''.join(missing)}.")
    return [read_strokes(folder / file) for file in names.values()]


def _arc(stroke: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length along a stroke at each of its points."""
    return np.concatenate([[0.0], np.hypot(*np.diff(stroke, axis=0).T).cumsum()])


def _medians(text: str) -> Strokes:
    rows = [np.array(stroke, np.float64).reshape(-1, 2) for stroke in json.loads(text)["medians"]]
    return [np.stack([row[:, 0], TOP - row[:, 1]], 1) for row in rows if len(row)]


def _paths(text: str) -> Strokes:
    tags = (tag for tag in ElementTree.fromstring(text).iter() if tag.tag.rpartition("}")[2] == "path")
    return [_path(tag.attrib["d"]) for tag in tags]


def _path(text: str) -> NDArray[np.float64]:
    """Points along the path of an SVG: lines, and curves at CURVE places each."""
    words = PATH.findall(text)
    at, handle, start = np.zeros(2), np.zeros(2), np.zeros(2)
    points, kind, i = list[NDArray[np.float64]](), "", 0
    while i < len(words):
        if words[i].isalpha():
            kind, i = words[i], i + 1
        elif kind in "mM":
            kind = "l" if kind == "m" else "L"  # more pairs after a move are lines
        name = kind.upper()
        values = np.array([float(word) for word in words[i : i + TAKES[name]]])
        if len(values) < TAKES[name]:
            raise ValueError(f"the path ends inside {kind}")
        i += TAKES[name]
        base = at if kind.islower() else np.zeros(2)
        if name in "HV":
            axis = int(name == "V")
            ends = [at.copy()]
            ends[0][axis] = values[0] + base[axis]
        else:
            ends = list(values.reshape(-1, 2) + base) if name != "Z" else [start]
        if name == "S":
            ends = [2 * at - handle, *ends]
        corners = [at, *ends]
        if name == "M":
            start, points = ends[0], [*points, ends[0]]
        else:
            times = np.linspace(0.0, 1.0, CURVE + 1)[1:, None] if len(ends) > 1 else np.ones((1, 1))
            points += list(_bezier(corners, times))
        handle = corners[-2] if name in "CS" else ends[-1]
        at = ends[-1]
    return np.array(points)


def _bezier(corners: list[NDArray[np.float64]], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve of these corners at times t (n, 1), by de Casteljau: (n, 2)."""
    rows = [np.broadcast_to(corner, (len(t), 2)) for corner in corners]
    while len(rows) > 1:
        rows = [(1.0 - t) * a + t * b for a, b in pairwise(rows)]
    return rows[0]
