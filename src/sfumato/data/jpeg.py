"""JPEG files as measurements: the levels they hold, with the tables and the sampling they were made with."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from sfumato.operators import Measurement
from sfumato.operators.jpeg import JPEG, SAMPLINGS, cosines, tiled

_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive Huffman frames: what libjpeg reads


def read_jpeg(path: str | Path, *, channels: int | None = None) -> Measurement:
    """The levels of a JPEG file: a `Measurement` through `JPEG` without noise, data space [0, 1], one row.

    Levels are found from the decoded planes, whole blocks of them and before any change of color; the decoder's smooth
    chroma (a triangle of 3/4 and 1/4) is undone by least squares. They are the file's own where a table's steps are
    larger than the rounding of 8 bits: all but those of the finest tables (quality above about 95), and a few of blocks
    that the decoder had to cut off at black or white. In a progressive file the last blocks of thin chroma, where they
    reach beyond the last block of luma, are guessed in part. The picture lies as it is stored: an EXIF tag that turns
    it is not followed.

    Args:
        channels: 3 or 1, of x_0; 3 for a grey file lets it have colors, of which the file does not know. As in the file
            unless given.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no JPEG file, is damaged, or is neither YCbCr nor grey.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    raw = path.read_bytes()
    try:
        image = Image.open(io.BytesIO(raw), formats=["JPEG"])
        size, layers, quantization = image.size, list(image.layer), image.quantization  # type: ignore[attr-defined]
        if image.mode not in ("L", "RGB") or image.info.get("adobe_transform", 1) == 0 < len(layers) - 1:
            raise ValueError(f"its colors are {image.mode} without a luma")
        factors = [(v, h) for _, h, v, _ in layers]
        top = factors[0]
        thin = {(top[0] / v, top[1] / h) for v, h in factors[1:]} or {(1, 1)}
        names = {factor: name for name, factor in SAMPLINGS.items()}
        if len(thin) > 1 or (found := next(iter(thin))) not in names:
            raise ValueError(f"its chroma is sampled {factors}")
        planes = _planes(raw, image.mode, top if len(layers) > 1 else (1, 1), len(layers))
    except (ValueError, OSError, SyntaxError, IndexError, struct.error) as error:
        raise ValueError(f"{path} is damaged or no JPEG file that can be used ({str(error).rstrip('.')}).") from None
    tables = torch.tensor([quantization[at] for *_, at in layers]).reshape(-1, 8, 8)
    count = (1 if len(layers) == 1 else 3) if channels is None else channels
    operator = JPEG((size[1], size[0]), tables, names[found], 0.0, 1.0, count)
    levels = []
    for i, (plane, table) in enumerate(zip(planes, tables, strict=True)):
        for axis, r in zip((0, 1), SAMPLINGS[operator.sampling] if i else (1, 1), strict=True):
            # of four numbers the decoder makes none that is smooth: each is there four times
            plane = _thinned(plane, axis) if r == 2 else plane.unflatten(axis, (-1, r)).select(axis + 1, 0)
        h, w = operator.plane(i)
        plane = plane[:h, :w]
        missing = [0, w - plane.shape[1], 0, h - plane.shape[0]]
        plane = pad(plane[None, None], missing, mode="replicate")[0, 0]
        levels.append(_levels(plane, tiled(table, plane)).flatten())
    return Measurement(operator, torch.cat(levels)[None].float(), 0.0)


def turned(path: str | Path) -> bool:
    """Whether an EXIF tag asks viewers to turn or mirror the picture."""
    with Image.open(path) as image:
        return bool(image.getexif().get(274, 1) != 1)


def _planes(raw: bytes, mode: str, unit: tuple[int, int], count: int) -> list[Tensor]:
    """Y (and Cb, Cr) as decoded, (H, W) in whole blocks: the header is told so, and nothing is cut off.

    Where one scan holds all planes it is in whole `unit`s of blocks; else a larger size would add blocks to a scan.
    """
    at = _marker(raw, 2, _FRAMES)
    scan = _marker(raw, at, {0xDA})
    if raw[at + 1] == 0xC2 or raw[scan + 4] != count:
        unit = (1, 1)
    stored = struct.unpack(">HH", raw[at + 5 : at + 9])
    size = (-(-n // (8 * u)) * 8 * u for n, u in zip(stored, unit, strict=True))
    image = Image.open(io.BytesIO(raw[: at + 5] + struct.pack(">HH", *size) + raw[at + 9 :]), formats=["JPEG"])
    if mode == "RGB":
        image.draft("YCbCr", image.size)
    values = torch.from_numpy(np.array(image)).double()
    return [values] if values.ndim == 2 else list(values.unbind(-1))


def _marker(raw: bytes, at: int, wanted: set[int]) -> int:
    """Where the first segment of one of these kinds begins."""
    while raw[at + 1] not in wanted:
        at += 2 + int(struct.unpack(">H", raw[at + 2 : at + 4])[0])
    return at


def _levels(plane: Tensor, steps: Tensor) -> Tensor:
    """Levels of a decoded plane; where it was cut off at black or white, pixels are what the levels say beyond it."""
    levels = (cosines(plane - 128.0) / steps).round()
    for _ in range(8):
        beyond = cosines(levels * steps, inverse=True) + 128.0
        whole = torch.where(
            plane <= 0.0, beyond.clamp(max=0.0), torch.where(plane >= 255.0, beyond.clamp(min=255.0), plane)
        )
        levels = (cosines(whole - 128.0) / steps).round()
    return levels


def _thinned(plane: Tensor, axis: int) -> Tensor:
    """What libjpeg made a plane of along `axis`: each number twice, 3/4 of it and 1/4 of its neighbour on that side."""
    n = plane.shape[axis] // 2
    up, at = torch.zeros(2 * n, n, dtype=plane.dtype), torch.arange(n)
    for side in (0, 1):
        up[2 * at + side, at] += 0.75
        up[2 * at + side, (at + 2 * side - 1).clamp(0, n - 1)] += 0.25
    return torch.linalg.lstsq(up, plane.movedim(axis, 0)).solution.movedim(0, axis)
