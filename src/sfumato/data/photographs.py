"""About 160 photographs that ship inside ordinary Debian packages: what the `photo` model is trained on.

Packages: gcompris-qt-data, mate-backgrounds, plasma-workspace-wallpapers, lomiri-wallpapers-16.04 and -20.04, unpacked
under one root (`apt-get download NAME; dpkg -x NAME_*.deb ROOT`, or installed: root `/`). Paintings and drawings among
them are left out by name. Licences differ by file and are named in each package's copyright file.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GCOMPRIS = (
    "explore_monuments",
    "explore_world_animals",
    "explore_farm_animals",
    "explore_world_music",
    "erase",
    "details",
)
PLASMA = (
    "BytheWater",
    "ColdRipple",
    "ColorfulCups",
    "DarkestHour",
    "EveningGlow",
    "FallenLeaf",
    "Grey",
    "Kite",
    "OneStandsOut",
    "Path",
    "summer_1am",
)
DRAWN = ("Gogh", "PereTanguy", "Eglise", "narwhal", "Picture_0B", "Infinite-Sea", "Fossa", "Dragonfly")


def photographs(root: Path) -> Iterator[tuple[str, Image.Image]]:
    """(name, RGB picture) of every photograph found under `root`, in a fixed order.

    Raises:
        FileNotFoundError: if none of the packages is there.
    """
    share, found = root / "usr/share", False
    for name, picture in (*_gcompris(share), *_wallpapers(share)):
        if not any(word in name for word in DRAWN):
            found = True
            yield name, picture
    if not found:
        raise FileNotFoundError(
            f"no photographs under {share}: unpack the packages that `sfumato.data.photographs` names."
        )


def reduced(picture: Image.Image, limit: int = 1600) -> NDArray[np.uint8]:
    """The picture made smaller, (H, W, 3): by 2 or 1.5, since large files carry compression traces, and to `limit`."""
    long = max(picture.size)
    factor = 2.0 if long >= 1400 else 1.5 if long >= 1000 else 1.0
    while long / factor > limit:
        factor *= 1.5
    size = (round(picture.width / factor), round(picture.height / factor))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def _gcompris(share: Path) -> Iterator[tuple[str, Image.Image]]:
    for activity in GCOMPRIS:
        path = share / f"gcompris-qt/rcc/{activity}.rcc"
        if not path.exists():
            continue
        seen = set()
        for name, raw in read_rcc(path):
            if not name.endswith(".webp") or raw in seen:
                continue
            seen.add(raw)
            picture = Image.open(io.BytesIO(raw))
            if picture.mode == "RGB" and min(picture.size) >= 350:
                yield f"{activity}/{Path(name).stem}", picture


def _wallpapers(share: Path) -> Iterator[tuple[str, Image.Image]]:
    for path in sorted((share / "backgrounds/mate/nature").glob("*.jpg")):
        yield f"mate/{path.stem}", Image.open(path).convert("RGB")
    for folder in PLASMA:
        files = list((share / f"wallpapers/{folder}/contents/images").glob("*"))
        if files:
            yield f"plasma/{folder}", Image.open(max(files, key=lambda f: f.stat().st_size)).convert("RGB")
    for path in sorted((share / "backgrounds").glob("*_by_*.jpg")):
        yield f"lomiri/{path.stem}", Image.open(path).convert("RGB")


def read_rcc(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file in a Qt resource file.

    Layout: a 20-byte header (magic, version, offsets of tree, data and names), then a tree of nodes of 14 or 22 bytes.
    """
    data = path.read_bytes()
    _, version, tree, blobs, names = struct.unpack(">4sIIII", data[:20])
    size = 22 if version >= 2 else 14

    def walk(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * size
        name_at, flags = struct.unpack(">IH", data[at : at + 6])
        start = names + name_at
        length = struct.unpack(">H", data[start : start + 2])[0]
        name = data[start + 6 : start + 6 + 2 * length].decode("utf-16-be") if node else ""
        here = f"{prefix}/{name}" if name else prefix
        if flags & 2:  # a folder: how many children, and the first of them
            count, first = struct.unpack(">II", data[at + 6 : at + 14])
            for child in range(first, first + count):
                yield from walk(child, here)
            return
        at = blobs + struct.unpack(">I", data[at + 10 : at + 14])[0]
        raw = data[at + 4 : at + 4 + struct.unpack(">I", data[at : at + 4])[0]]
        yield here, zlib.decompress(raw[4:]) if flags & 1 else raw

    yield from walk(0, "")
