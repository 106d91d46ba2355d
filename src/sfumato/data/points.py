"""Shapes as sets of points: meshes sampled uniformly by area, and clouds; OBJ, PLY, STL, OFF and XYZ files.

A shape is an array of corners (F, 3, 3), one triangle a row, or of points (P, 3). The public code of Luo and Hu (2021)
brings each to mean 0 and to one standard deviation 1 of all its coordinates; for a mesh both are integrals over its
surface, without any sampling.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.codecs import Affine
from sfumato.data.files import below, beside, present
from sfumato.noise import Seeds

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".xyz")
LARGEST = 1e30  # coordinates beyond it are damage
PLY = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_shape(path: str | Path) -> NDArray[np.float64]:
    """Triangles (F, 3, 3) of a file with faces, points (P, 3) of one without. Polygons are cut into fans.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is empty, damaged, or of another format.
    """
    path = present(Path(path))
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"shapes are {', '.join(SUFFIXES)} files, got {path.name}.")
    return parse_shape(path.read_bytes(), path.suffix.lower(), str(path))


def parse_shape(raw: bytes, suffix: str, name: str) -> NDArray[np.float64]:
    """As `read_shape`, of the content of a file."""
    readers = {".obj": _obj, ".ply": _ply, ".stl": _stl, ".off": _off, ".xyz": _xyz}
    try:
        shape = readers[suffix](raw)
    except (ValueError, IndexError, KeyError, StopIteration, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is damaged or no {suffix[1:].upper()} file ({error}).") from None
    if shape.size == 0 or not bool((np.abs(shape) < LARGEST).all()):
        raise ValueError(f"{name} holds {'no points' if shape.size == 0 else 'coordinates that are not finite'}.")
    return shape


def unit(shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shape with mean 0 and, over all coordinates, standard deviation 1: of its points, or of its surface.

    Over a triangle with corners v_i, E[x] = sum v_i / 3 and E|x|^2 = (sum |v_i|^2 + |sum v_i|^2) / 12.

    Raises:
        ValueError: for a shape that is one point, or has no area.
    """
    if shape.ndim == 2:
        centred = shape - shape.mean(0)
        square = float((centred**2).mean())
    else:
        area = areas(shape)
        if not area.sum() > 0.0:
            raise ValueError("the faces have no area: points cannot be drawn on them.")
        share = area / area.sum()
        centred = shape - share @ shape.mean(1)
        total = centred.sum(1)
        square = float(share @ ((centred**2).sum((1, 2)) + (total**2).sum(1))) / 12.0 / 3.0
    if not square > 0.0:
        raise ValueError("all points of the shape are one point.")
    return np.asarray(centred / math.sqrt(square), np.float64)


def areas(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of each triangle (F, 3, 3), (F,)."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    return np.asarray(0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1), np.float64)


def draw(shape: Tensor, cdf: Tensor | None, u: Tensor) -> Tensor:
    """Points of a shape, (P, 3), for uniform numbers u (P, 3): uniform by area, or of the cloud without repetition.

    On the triangle a, b, c: a + sqrt(u_1) ((1 - u_2) (b - a) + u_2 (c - a)). Of a cloud: as many different points as
    there are rows. Source: Osada et al. 2002 eq. 1, for triangles.

    Args:
        cdf: of a mesh, the running sum of its areas, (F,).
    """
    if cdf is None:
        return shape[_ranks(u[:, 0], len(shape))]
    face = torch.searchsorted(cdf, u[:, 0] * cdf[-1], right=True).clamp_(max=len(cdf) - 1)
    a, b, c = shape[face].unbind(1)
    root = u[:, 1:2].sqrt()
    return a + root * ((1.0 - u[:, 2:]) * (b - a) + u[:, 2:] * (c - a))


def _ranks(u: Tensor, count: int) -> Tensor:
    """len(u) different numbers below `count`, uniform in law (Floyd's method): one draw for each."""
    taken: dict[int, None] = {}
    for i, part in enumerate(u.tolist(), count - len(u)):
        pick = int(part * (i + 1))
        taken[i if pick in taken else pick] = None
    return torch.tensor(list(taken))


class Clouds:
    """Shapes as training data: items are `count` points, drawn anew each time, (3, P); no order is meant by theirs.

    Args:
        shapes: triangles (F, 3, 3) or points (P, 3) each; brought to mean 0 and standard deviation 1 one by one.
        count: points of an item.
        names: what the shapes are called in errors.

    Raises:
        ValueError: for a cloud of fewer points, or a shape that has no extent.
    """

    names: tuple[str, ...] = ()
    codec = Affine()

    def __init__(self, shapes: list[NDArray[np.float64]], count: int = 2048, called: list[str] | None = None) -> None:
        self.event, self.shapes, self.cdfs = (3, count), [], list[Tensor | None]()
        for i, shape in enumerate(shapes):
            name = called[i] if called else f"shape {i}"
            if shape.ndim == 2 and len(shape) < count:
                raise ValueError(f"{name} has {len(shape)} points, an item {count}: --size is fewer.")
            try:
                self.shapes.append(torch.from_numpy(unit(shape)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            self.cdfs.append(None if shape.ndim == 2 else torch.from_numpy(areas(unit(shape)).cumsum()))
        if not self.shapes:
            raise ValueError("there are no shapes to train on.")

    @classmethod
    def read(cls, path: str | Path, count: int = 2048) -> Clouds:
        """The shapes in the files below a folder, in the order of their names.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: for one that cannot be read.
        """
        files = shapes(Path(path))
        if not files:
            raise FileNotFoundError(f"there is no shape below {path}: they are {', '.join(SUFFIXES)} files.")
        return cls([read_shape(file) for file in files], count, [str(file) for file in files])

    @classmethod
    def of_array(cls, values: NDArray, count: int | None = None) -> Clouds:
        """Clouds (N, P, 3), one after the other; all P points where `count` is not given."""
        if values.ndim != 3 or values.shape[2] != 3 or values.dtype.kind != "f" or not np.isfinite(values).all():
            raise ValueError(f"clouds are finite floats (N, points, 3), got {values.dtype} of shape {values.shape}.")
        return cls([np.asarray(cloud, np.float64) for cloud in values], count or values.shape[1])

    def fields(self, few: bool) -> dict[str, Any]:
        """Fields of the recipe that suit such data: a quarter of the paper's widths for few of them (ours)."""
        small = {"code": 64, "widths": (64, 128, 256, 128, 64), "encoder": (64, 64, 128, 256), "hidden": 64}
        return (small if few else {}) | {"factor": 50.0}

    def __len__(self) -> int:
        return len(self.shapes)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): (B, 3, P) float32, each shape in its own unit; the points are drawn."""
        u = noise.uniform(torch.empty(len(items), self.event[1], 3, dtype=torch.float64))
        rows = [draw(self.shapes[item], self.cdfs[item], row) for item, row in zip(items, u, strict=True)]
        return torch.stack(rows).transpose(1, 2).float(), None


def shapes(path: Path) -> list[Path]:
    """The shape files below a folder, sorted, hidden ones left out."""
    return below(path, SUFFIXES)


def furniture(root: Path, *words: str) -> tuple[list[NDArray[np.float64]], list[str]]:
    """(triangles (F, 3, 3) of each model, their names) of Sweet Home 3D's furniture whose name has one of `words`.

    From Debian's package sweethome3d-furniture (CC-BY-3.0; BlendSwap-CC-0: CC0), unpacked under `root` or installed
    (`/`). Models without area are left out.

    Raises:
        FileNotFoundError: with the package to unpack.
    """
    folder = root / "usr/share/sweethome3d/furniture"
    catalogues = sorted(folder.glob("*.sh3f"))
    if not catalogues:
        raise FileNotFoundError(
            f"{folder} has no .sh3f: `apt-get download sweethome3d-furniture`, `dpkg -x` it, name the root."
        )
    found, names = [], []
    for file in catalogues:
        with zipfile.ZipFile(file) as held:
            text = held.read("PluginFurnitureCatalog.properties").decode("latin-1")
            said = dict(re.findall(r"^(\w+#\d+)\s*=\s*(.*?)\s*$", text, re.M))
            for key, name in said.items():
                model = said.get(f"model#{key.partition('#')[2]}", "").lstrip("/")
                asked = not words or any(word.lower() in re.findall(r"\w+", name.lower()) for word in words)
                if not key.startswith("name#") or not asked or not model.endswith(".obj"):
                    continue
                shape = parse_shape(held.read(model), ".obj", f"{file}:{model}")
                if shape.ndim == 3 and areas(shape).sum() > 0.0:
                    found.append(shape)
                    names.append(name)
    return found, names


def write_ply(path: Path, points: Tensor) -> None:
    """Writes points (3, P) as a PLY file of 32-bit floats, little-endian."""
    rows = points.detach().cpu().T.contiguous().numpy().astype("<f4")
    axes = "".join(f"property float {axis}\n" for axis in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{axes}end_header\n"
    with beside(path) as part:
        part.write_bytes(head.encode() + rows.tobytes())


def _built(vertices: NDArray[np.float64], faces: list[list[int]]) -> NDArray[np.float64]:
    """Triangles of polygons, or the vertices where there are none."""
    fans = [(face[0], face[i], face[i + 1]) for face in faces for i in range(1, len(face) - 1)]
    if not fans:
        return vertices
    index = np.asarray(fans)
    if index.min() < 0 or index.max() >= len(vertices):
        raise ValueError(f"a face names corner {index.max()} of {len(vertices)}")
    return vertices[index]


def _obj(raw: bytes) -> NDArray[np.float64]:
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    for line in raw.decode("latin-1").replace("\\\n", " ").splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(word) for word in words[1:4]])
        elif words[:1] == ["f"]:
            numbers = [int(word.partition("/")[0]) for word in words[1:]]
            if 0 in numbers:
                raise ValueError("corners count from 1, got 0")
            # From 1, or backwards from the vertices read so far.
            faces.append([n - 1 if n > 0 else len(vertices) + n for n in numbers])
    return _built(np.array(vertices, np.float64).reshape(-1, 3), faces)


def _off(raw: bytes) -> NDArray[np.float64]:
    lines = (line.partition("#")[0] for line in raw.decode("latin-1").splitlines())
    words = iter(" ".join(lines).split())
    first = next(words)
    if not first.startswith("OFF"):
        raise ValueError("it does not begin with OFF")
    count, polygons = int(first[3:] or next(words)), int(next(words))  # some files lack the space after OFF
    next(words)  # edges
    vertices = np.array([float(next(words)) for _ in range(3 * count)], np.float64).reshape(-1, 3)
    return _built(vertices, [[int(next(words)) for _ in range(int(next(words)))] for _ in range(polygons)])


def _xyz(raw: bytes) -> NDArray[np.float64]:
    rows = [line.split() for line in raw.decode("ascii").splitlines() if line.strip() and line[0] != "#"]
    return np.array([[float(word) for word in row[:3]] for row in rows], np.float64).reshape(-1, 3)


def _stl(raw: bytes) -> NDArray[np.float64]:
    count = int.from_bytes(raw[80:84], "little")
    if len(raw) == 84 + 50 * count:
        kind = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
        return np.frombuffer(raw, kind, count, 84)["corners"].astype(np.float64)
    if not raw.lstrip().startswith(b"solid"):
        raise ValueError("it is too short for its header, and no text")
    corners = [line.split()[1:4] for line in raw.decode("latin-1").splitlines() if line.split()[:1] == ["vertex"]]
    return np.array(corners, np.float64).reshape(-1, 3, 3)


def _ply(raw: bytes) -> NDArray[np.float64]:
    head, mark, body = raw.partition(b"end_header\n")
    if not mark:
        head, mark, body = raw.partition(b"end_header\r\n")
    lines = [line.split() for line in head.decode("ascii").splitlines()]
    if not mark or lines[0] != ["ply"]:
        raise ValueError("its header is not whole")
    form = next(line[1] for line in lines if line[0] == "format")
    vertices, faces = np.empty((0, 3)), list[list[int]]()
    words = iter(body.split()) if form == "ascii" else None
    order, at = (">" if form == "binary_big_endian" else "<"), 0

    def take(kind: str) -> float:
        nonlocal at
        if words is not None:
            return float(next(words))
        code = np.dtype(order + PLY[kind])
        value = np.frombuffer(body, code, 1, at)[0]
        at += code.itemsize
        return float(value)

    for i, line in enumerate(lines):
        if line[0] != "element":
            continue
        rest = lines[i + 1 :]
        stop = next((j for j, other in enumerate(rest) if other[0] == "element"), len(rest))
        fields = [other[1:] for other in rest[:stop] if other[0] == "property"]
        count = int(line[2])
        if words is None and all(field[0] != "list" for field in fields):  # fixed rows: all at once
            kind = np.dtype([(field[1], order + PLY[field[0]]) for field in fields])
            rows = np.frombuffer(body, kind, count, at)
            at += kind.itemsize * count
            if line[1] == "vertex":
                vertices = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], 1)
            continue
        table = [_row(fields, take) for _ in range(count)]
        if line[1] == "vertex":
            vertices = np.array([[row[axis][0] for axis in "xyz"] for row in table], np.float64).reshape(-1, 3)
        elif line[1] == "face":
            named = (row.get("vertex_indices", row.get("vertex_index", [])) for row in table)
            faces += [[int(n) for n in face] for face in named]
    return _built(vertices, faces)


def _row(fields: list[list[str]], take: Callable[[str], float]) -> dict[str, list[float]]:
    """One row of an element of a PLY file, its numbers taken one after the other."""
    row = {}
    for field in fields:
        if field[0] == "list":
            row[field[3]] = [take(field[2]) for _ in range(int(take(field[1])))]
        else:
            row[field[1]] = [take(field[0])]
    return row
