"""Sets of pictures to be compared, read one at a time: folders, NumPy files, IDX files, benchmark sets."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from sfumato.data.arrays import Arrays
from sfumato.data.files import present
from sfumato.data.images import read_image, suffixes
from sfumato.data.labelled import read_idx
from sfumato.data.pairing import Pair

RESTORED = ".restored"  # NAME.restored.png is what `sfumato restore` makes of NAME
SHEET, JOB = "grid.png", "job.json"
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
TURNED = (5, 6, 7, 8)  # EXIF orientations that change height and width


class Pictures(Protocol):
    """Pictures with names. Nothing is kept in memory.

    Attributes:
        names: one each, by which pictures of two sets pair.
    """

    names: tuple[str, ...]

    def shape(self, i: int) -> tuple[int, int, int]:
        """(C, H, W) of a picture, from the head of its file."""

    def read(self, i: int) -> Tensor:
        """A picture (C, H, W) in [0, 1]."""

    def label(self, i: int) -> int | None:
        """Its class, where the set has classes."""


class Files:
    """Files by name, in the order given."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.files, self.names = list(files.values()), tuple(files)

    @classmethod
    def folder(cls, path: Path) -> Files:
        """The pictures of a folder and its subfolders; the restored ones alone if there are any such, and not the sheet
        of all samples that `sfumato sample` adds.

        A name is the path below the folder without the suffix, "__" for "/".

        Raises:
            ValueError: if there are none, or two have one name.
        """
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes() and p.is_file())
        held = [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if (path / JOB).exists():  # what shards left is there a second time
            held = [p for p in held if p.relative_to(path).parts[0] not in ("blocks", "parts")]
        held = [p for p in held if p.name != SHEET or not (p.parent / "manifest.json").exists()]
        done = [p for p in held if p.stem.endswith(RESTORED)]
        files: dict[str, Path] = {}
        for file in done or held:
            name = name_of(file.relative_to(path).as_posix())
            if name in files:
                raise ValueError(f"{files[name]} and {file} have one name, {name}: keep one of them.")
            files[name] = file
        if not files:
            raise ValueError(f"{path} holds no pictures.")
        return cls(files)

    def shape(self, i: int) -> tuple[int, int, int]:
        try:
            with Image.open(self.files[i]) as picture:
                (w, h), channels = picture.size, 1 if picture.mode in GREY else 3
                if picture.getexif().get(0x0112) in TURNED:
                    w, h = h, w
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return (*self.read(i).shape,)  # type: ignore[return-value]  # says what is wrong with it
        return channels, h, w

    def read(self, i: int) -> Tensor:
        return read_image(self.files[i])

    def label(self, i: int) -> int | None:
        return None


class Stored:
    """The rows of an array: whole numbers of full range, or floats (N, C, H, W) in [0, 1]; named by their number."""

    def __init__(self, source: Arrays, path: Path) -> None:
        if not source.pictures and not (
            len(source.event) == 3 and source.values.min() >= 0.0 and source.values.max() <= 1.0
        ):
            raise ValueError(
                f"{path} holds no pictures: uint8 or uint16 (N, H, W) or (N, H, W, C), or floats (N, C, H, W) in "
                f"[0, 1], got {source.values.dtype} of shape {source.values.shape}."
            )
        self.source, self.names = source, tuple(f"{i:08d}" for i in range(len(source)))

    def shape(self, i: int) -> tuple[int, int, int]:
        c, h, w = self.source.event
        return c, h, w

    def read(self, i: int) -> Tensor:
        x0, _ = self.source.batch([i], None)  # type: ignore[arg-type]  # nothing is drawn
        return self.source.codec.decode(x0)[0].clamp(0.0, 1.0)

    def label(self, i: int) -> int | None:
        cond = self.source.batch([i], None)[1]  # type: ignore[arg-type]
        return None if cond is None else int(cond)


class Truths(Files):
    """The clean pictures of a benchmark set, by the names of the degraded ones; a border more is cut off."""

    def __init__(self, held: list[Pair]) -> None:
        super().__init__({name_of(pair.name): pair.target for pair in held})
        self.pairs = held

    def shape(self, i: int) -> tuple[int, int, int]:
        own, pair = super().shape(i), self.pairs[i]
        return (own[0], *Files({"": pair.input}).shape(0)[1:]) if pair.centre else own

    def read(self, i: int) -> Tensor:
        return self.pairs[i].read()[1] if self.pairs[i].centre else super().read(i)


def opened(path: Path) -> Pictures:
    """The set at a path: a folder, a .npy or .npz file, or an IDX file (-ubyte, -ubyte.gz).

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it holds no pictures.
    """
    if path.is_dir():
        return Files.folder(path)
    present(path)
    if path.name.removesuffix(".gz").endswith("-ubyte"):
        return Stored(Arrays(np.asarray(read_idx(path))), path)
    if path.suffix.lower() in (".npy", ".npz"):
        return Stored(Arrays.read(path), path)
    raise ValueError(f"{path} is no set of pictures: give a folder, a .npy or .npz file, or an IDX file (-ubyte.gz).")


def name_of(path: str) -> str:
    """The name by which a file pairs: its path without suffix, and without what a restoration adds."""
    stem = path.rsplit(".", 1)[0] if Path(path).suffix.lower() in suffixes() else path
    if stem.endswith(RESTORED):
        stem = name_of(stem.removesuffix(RESTORED))
    return stem.replace("/", "__")


def partners(a: Pictures, b: Pictures) -> list[tuple[int, int]]:
    """Places of the pictures of one name in both sets, in the order of `a`.

    Raises:
        ValueError: naming those that have none.
    """
    there = {name: i for i, name in enumerate(b.names)}
    if lone := [name for name in a.names if name not in there] + sorted(set(b.names) - set(a.names)):
        raise ValueError(
            f"{len(a.names)} and {len(b.names)} pictures, {len(lone)} without a partner of the same name: {_few(lone)}."
        )
    return [(i, there[name]) for i, name in enumerate(a.names)]


def unequal(a: Pictures, b: Pictures, pairs: list[tuple[int, int]]) -> None:
    """Checks that partners are of one size.

    Raises:
        ValueError: naming those that are not, with their sizes.
    """
    wrong = []
    for i, j in pairs:
        (_, *x), (_, *y) = a.shape(i), b.shape(j)
        if x != y:
            wrong.append(f"{a.names[i]} ({x[0]} x {x[1]} and {y[0]} x {y[1]})")
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(pairs)} pairs differ in size: {_few(wrong)}.")


def digest(*sets: Pictures) -> str:
    """SHA-256 of the names of sets."""
    return hashlib.sha256("\n\n".join("\n".join(each.names) for each in sets).encode()).hexdigest()


def _few(words: list[str]) -> str:
    return ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")
