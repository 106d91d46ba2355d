"""Tar shards of pictures (webdataset): the files of one item share a name up to its first dot.

The shards are not streamed but indexed: headers are read once, and an item is then read from its place. So an item has
a number, its draws are keyed by (seed, step, row) like everything else, and a run goes on exactly.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sfumato.data.images import ImageFolder, decode_image, suffixes


class Member(NamedTuple):
    """A file inside a shard: where its bytes lie."""

    shard: Path
    first: int
    size: int

    def bytes(self) -> bytes:
        """Its content."""
        with open(self.shard, "rb") as file:
            file.seek(self.first)
            return file.read(self.size)


class TarShards(ImageFolder):
    """The pictures of tar files as training data, in the order of the files and of the items in them.

    Args:
        path: a folder of .tar files, or one of them; they must not be compressed.
        options: of `ImageFolder`: size, channels, fit, flip, classes, cache. A class is the text of NAME.cls, or
            "label" in NAME.json; `names` are sorted as numbers where all are.

    Raises:
        ValueError: if a shard is cut short or compressed, or no picture is in any.
    """

    def __init__(self, path: str | Path, *args: Any, **options: Any) -> None:
        self.items: dict[str, dict[str, Member]] = {}
        super().__init__(path, *args, **options)

    def found(self) -> list[Path]:
        for shard in shards(self.path):
            for name, suffix, member in _members(shard):
                self.items.setdefault(f"{shard.name}/{name}", {})[suffix] = member
        known = suffixes()
        pictures = [Path(f"{name}.{s}") for name, held in self.items.items() for s in held if f".{s}" in known]
        if not pictures:
            raise ValueError(f"there is no picture in the shards of {self.path}: items are NAME.jpg, NAME.png ...")
        return pictures

    def labels(self) -> list[str]:
        labels = [self._label(file) for file in self.files]
        if len(set(labels)) < 2:
            raise ValueError(f"the shards of {self.path} have one class: leave --classes out.")
        if all(label.isdecimal() for label in labels):
            width = max(map(len, labels))
            return [label.zfill(width) for label in labels]
        return labels

    def read(self, file: Path) -> Tensor:
        name, _, suffix = str(file).rpartition(".")
        return decode_image(self.items[name][suffix].bytes(), file, channels=self.channels)

    def _label(self, file: Path) -> str:
        held = self.items[str(file).rpartition(".")[0]]
        if "cls" in held:
            return held["cls"].bytes().decode("utf-8").strip()
        try:
            return str(json.loads(held["json"].bytes())["label"])
        except (KeyError, ValueError, TypeError):
            raise ValueError(f'{file} has no class: neither a .cls beside it nor a "label" in a .json.') from None


def shards(path: Path) -> list[Path]:
    """The .tar files of a folder, sorted; or the one file."""
    return sorted(path.glob("*.tar")) if path.is_dir() else [path]


def _members(shard: Path) -> list[tuple[str, str, Member]]:
    """(name, suffix in lower case, place) of each file of a shard."""
    found = []
    try:
        with tarfile.open(shard, "r:") as file:
            for entry in file:
                folder, _, base = entry.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                if entry.isfile() and dot:
                    place = Member(shard, entry.offset_data, entry.size)
                    found.append((f"{folder}/{stem}".lstrip("./"), suffix.lower(), place))
    except tarfile.ReadError as error:
        raise ValueError(f"{shard} is cut short, compressed or no tar file ({error}): shards are plain.") from None
    return found
