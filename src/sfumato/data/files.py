"""Writing files so that a crash, a full disk or Ctrl-C leaves the file before, whole, and no litter."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def present(path: Path) -> Path:
    """The path, if a file with anything in it is there.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: if not.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name one file.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes).")
    return path


def below(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files below a folder with one of these suffixes (in lower case), sorted, hidden ones left out."""
    found = (file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(path).parts))


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well, else it is removed.

    The folder is made if need be. The name keeps the suffix of `path`, by which writers choose their format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
