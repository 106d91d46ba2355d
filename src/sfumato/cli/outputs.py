"""What commands write: pictures, arrays and a manifest, beside their places and then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.doctor import versions

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
KINDS = ("points", "strokes", "tunes")  # of data whose items are written to files of their own


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """A folder to write in; its files move to `out` when all is well, the manifest last, and vanish otherwise.

    Files that the manifest of an earlier run there names, and this run does not write, are removed.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file: name a folder with --out.")
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    part.mkdir(parents=True)
    try:
        yield part
        out.mkdir(parents=True, exist_ok=True)
        for name in _earlier(out):
            if not (part / name).exists():
                (out / name).unlink(missing_ok=True)
                with suppress(OSError):  # a folder that still holds something stays, and so does `out`
                    (out / name).parent.rmdir()
        for path in sorted(_files(part), key=lambda path: path.name == MANIFEST):
            target = out / path.relative_to(part)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    """The files of a folder and of the folders in it (a DICOM series is one), in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def collecting() -> Iterator[tuple[Path, dict[str, bytes]]]:
    """A folder to write in, and a dict that holds the content of its files, by name, once all is well."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), found
        found |= {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _earlier(out: Path) -> list[str]:
    """Names of the files that an earlier run wrote in `out`."""
    try:
        names = json.loads((out / MANIFEST).read_text("utf-8"))["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]


def place(manifest: Path) -> Path:
    """Where the run of a manifest wrote: its folder, or NAME.csv beside it for a NAME.csv.manifest.json."""
    manifest = manifest.absolute()
    name = manifest.name.removesuffix(f".{MANIFEST}")
    return manifest.parent if name == manifest.name else manifest.parent / name


@contextmanager
def writing_beside(out: Path) -> Iterator[Path]:
    """As `writing`, for a run whose main output is the one file `out`: what else it writes is named after it.

    In the folder that is yielded, a file of the name of `out` becomes `out`, any other X becomes OUT.X.
    """
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a file.")
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    part.mkdir(parents=True)
    try:
        yield part
        for path in sorted(part.iterdir(), key=lambda path: path.name == MANIFEST):
            os.replace(path, out if path.name == out.name else out.with_name(f"{out.name}.{path.name}"))
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """manifest.json: the settings, from which `sfumato run` repeats the command, what came of them, versions."""
    outputs = {path.relative_to(folder).as_posix(): digest(path) for path in _files(folder)}
    whole = {"format": 1, **content, "versions": versions(), "outputs": outputs}
    (folder / MANIFEST).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "utf-8")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of the digests of the files in a folder."""
    if not path.is_dir():
        return digest(path)
    lines = (f"{digest(p)}  {p.name}\n" for p in sorted(path.iterdir()) if p.is_file())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_items(folder: Path, x: Tensor, name: str, first: int = 0) -> None:
    """One file for each item of x (N, *event): PNG for pictures (values held to [0, 1]), else one array NAME.npy.

    Pictures are numbered from `first`.
    """
    import numpy as np

    if not is_picture(x):
        np.save(folder / f"{name}.npy", x.detach().cpu().numpy())
        return
    for i, picture in enumerate(x, first):
        write_picture(folder / f"{name}-{i:03d}.png", picture)


def write_texts(folder: Path, texts: list[str], name: str, first: int = 0) -> None:
    """One UTF-8 file for each text, numbered from `first`."""
    for i, text in enumerate(texts, first):
        (folder / f"{name}-{i:03d}.txt").write_text(text, "utf-8")


def write_sounds(folder: Path, x: Tensor, name: str, hertz: int, first: int = 0) -> None:
    """One WAV file for each sound of x (N, channels, L) in [-1, 1], numbered from `first`."""
    from sfumato.data.wave import write_wave

    for i, sound in enumerate(x, first):
        write_wave(folder / f"{name}-{i:03d}.wav", sound, hertz)


def write_kind(folder: Path, x: Tensor, name: str, kind: str | None, first: int = 0) -> bool:
    """One file for each item of a kind that has a format of its own, numbered from `first`; False for other kinds."""
    if kind == "points":
        from sfumato.data.points import write_ply

        for i, points in enumerate(x, first):
            write_ply(folder / f"{name}-{i:03d}.ply", points)
    elif kind == "strokes":
        from sfumato.data.ink import write_svg

        for i, steps in enumerate(x, first):
            write_svg(folder / f"{name}-{i:03d}.svg", steps)
    elif kind == "tunes":
        from sfumato.data.tunes import write_midi

        for i, tokens in enumerate(x, first):
            write_midi(folder / f"{name}-{i:03d}.mid", tokens)
    return kind in KINDS


def write_picture(path: Path, x: Tensor) -> None:
    """One picture (C, H, W), values held to [0, 1]."""
    from sfumato.data import images

    images.write_image(path, x.detach().cpu().float().clamp(0.0, 1.0))


def is_picture(x: Tensor) -> bool:
    """Whether x is (N, C, H, W) with 1 or 3 channels."""
    return x.ndim == 4 and x.shape[1] in (1, 3)


def grid(x: Tensor, gap: int = 2) -> Tensor:
    """Pictures (N, C, H, W) side by side in rows, about as many as columns, white between: one picture (C, H', W')."""
    n, c, h, w = x.shape
    columns = max(1, round(n**0.5))
    rows = -(-n // columns)
    sheet = x.new_ones(c, rows * (h + gap) - gap, columns * (w + gap) - gap)
    for i, picture in enumerate(x):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = picture
    return sheet
