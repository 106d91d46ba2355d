"""How degraded and clean pictures of a set pair: by a pattern of names, or by a list.

A rule is a pattern of the degraded files below the folder, and what makes the path of the clean one out of theirs,
suffixes apart: formats may differ. `data.layouts` has the sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True)
class Pair:
    """A degraded picture and its clean one.

    Attributes:
        name: what tells it from the others of the set: the path of the input below the folder of the set, with "__"
            for "/".
        centre: the clean one has a border more, which is cut off to the size of the degraded one.
    """

    name: str
    input: Path
    target: Path
    centre: bool = False

    def read(self) -> tuple[Tensor, Tensor]:
        """(degraded, clean), (C, H, W) each, in [0, 1]; a grey one beside a color one is repeated.

        Raises:
            ValueError: if one is damaged, or their sizes differ where the set has no rule for it. (The low resolution
                of a set of super-resolution is smaller; use `images.read_image` there.)
        """
        from sfumato.data.images import read_image

        x, truth = read_image(self.input), read_image(self.target)
        if self.centre:
            top, left = ((n - m) // 2 for n, m in zip(truth.shape[1:], x.shape[1:], strict=True))
            if min(top, left) >= 0:
                truth = truth[:, top : top + x.shape[1], left : left + x.shape[2]]
        if x.shape[1:] != truth.shape[1:]:
            sizes = " and ".join("{} x {}".format(*v.shape[1:]) for v in (x, truth))
            raise ValueError(f"{self.input} and {self.target} differ in size: {sizes}.")
        channels = max(len(x), len(truth))
        return x.expand(channels, -1, -1), truth.expand(channels, -1, -1)


@dataclass(frozen=True)
class Swap:
    """The clean path is the degraded one, without suffix, after `re.sub(this, that)`: the first of `that` with a file.

    Args:
        inputs: glob of the degraded files, below the folder of the set.
        this, that: a pattern with its replacements.
        skip: a pattern of degraded files that are kept out.
        centre: of `Pair`.
    """

    inputs: str
    this: str
    that: tuple[str, ...]
    skip: str = ""
    centre: bool = False

    def pairs(self, root: Path) -> Iterator[tuple[Path, Path | None]]:
        """(degraded, clean or None where it is missing), sorted."""
        for path in _files(root, self.inputs, self.skip):
            stem = path.relative_to(root).as_posix().removesuffix(path.suffix)
            clean = (_present(root, re.sub(self.this, that, stem)) for that in self.that)
            yield path, next((found for found in clean if found), None)


@dataclass(frozen=True)
class Listed:
    """Paths of a clean and a degraded file on each line of a text file, below the folder of the set.

    Args:
        file: glob of the text file.
        order: which word of a line is the degraded one, and which the clean one.
    """

    file: str
    order: tuple[int, int] = (1, 0)

    def pairs(self, root: Path) -> Iterator[tuple[Path, Path | None]]:
        """(degraded, clean or None where it is missing), in the order of the lines.

        Raises:
            FileNotFoundError: for a degraded file that is listed and missing.
            ValueError: for a line that is no pair.
        """
        for listing in sorted(root.glob(self.file)):
            for line in listing.read_text("utf-8").splitlines():
                words = [re.sub(r"^\.?/", "", word) for word in line.split()]
                if not words:
                    continue
                if len(words) < 2:
                    raise ValueError(f"{listing} holds a line that is no pair of paths: {line!r}.")
                degraded, clean = (root / words[place] for place in self.order)
                if not degraded.is_file():
                    raise FileNotFoundError(f"{degraded} is not there, and {listing.name} lists it.")
                yield degraded, clean if clean.is_file() else None


@dataclass(frozen=True)
class Clean:
    """Clean pictures alone: a glob, or the lines of a partition file (name, number of the part)."""

    inputs: str
    partition: tuple[str, str] = ("", "")

    def pairs(self, root: Path) -> Iterator[tuple[Path, Path | None]]:
        """(picture, the same picture), sorted."""
        file, part = self.partition
        kept = None
        if file and (root / file).is_file():
            lines = (line.split() for line in (root / file).read_text("utf-8").splitlines())
            kept = {words[0] for words in lines if words[1:] == [part]}
        for path in _files(root, self.inputs) if kept or not file else ():
            if kept is None or path.name in kept:
                yield path, path


Rule = Swap | Listed | Clean


def _files(root: Path, pattern: str, skip: str = "") -> list[Path]:
    """Pictures that fit, sorted; hidden files and what is no picture are passed over."""
    found = (p for p in root.glob(pattern) if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in found if not (skip and re.search(skip, p.name)) and p.is_file())


def _present(root: Path, stem: str) -> Path | None:
    for suffix in SUFFIXES:
        for case in (suffix, suffix.upper()):
            if (path := root / f"{stem}{case}").is_file():
                return path
    return None
