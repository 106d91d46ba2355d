"""Pictures: one file read or written, and a folder of them as training data.

Data space is [0, 1], channels first. The numbers are taken as they are, without color profiles; 8 and 16 bits are
full range.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from sfumato.codecs import Affine
from sfumato.data.files import beside
from sfumato.noise import Noise, Seeds

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's grey
PANORAMA = 4  # (ours) how many times its width a picture may be long before its ends are cut off, in a folder

# Reading


def read_image(path: str | Path, *, channels: int | None = None, alpha: bool = False) -> Tensor:
    """A picture (C, H, W), float32 in [0, 1], turned as its EXIF tag says; the first frame of an animation.

    Args:
        channels: 1 grey (ITU-R BT.601) or 3 color; None: 1 where the file is grey, else 3.
        alpha: keep transparency as one channel more (opaque: 1); else the picture is laid on white.

    Palettes and CMYK become color. Numbers of 16 bits keep them in grey files and in color PNG; other 16-bit files
    (color TIFF, grey PNG with transparency) come at 8 bits. Files of floats are taken if they lie in [0, 1].

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is empty, truncated, or no picture; if its range is not stated.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is 1 (grey), 3 (color) or None (as in the file), got {channels}.")
    path = Path(path)
    return decode_image(_bytes(path), path, channels=channels, alpha=alpha)


def decode_image(raw: bytes, path: Path, *, channels: int | None = None, alpha: bool = False) -> Tensor:
    """As `read_image`, of the bytes of a file; `path` is what an error calls it."""
    try:
        values = _decode(raw)
    except _RangeError as error:
        raise ValueError(f"{path} {error}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has more pixels than can be read safely: cut or reduce it first.") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, struct.error, zlib.error ...
        raise ValueError(f"{path} is damaged or no picture ({_brief(error)}).") from None
    x = torch.from_numpy(values).permute(2, 0, 1)
    color, opacity = (x[:-1], x[-1:]) if len(x) in (2, 4) else (x, None)
    if channels == 1 and len(color) == 3:
        color = (torch.tensor(LUMA).reshape(3, 1, 1) * color).sum(0, keepdim=True)
    elif channels == 3 and len(color) == 1:
        color = color.expand(3, -1, -1)
    if alpha:
        return torch.cat([color, torch.ones_like(color[:1]) if opacity is None else opacity])
    return color.contiguous() if opacity is None else color * opacity + (1.0 - opacity)


class _RangeError(ValueError):
    """The range of the numbers in a file is not known."""


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name one picture.")
    raw = path.read_bytes()
    if not raw:
        raise ValueError(f"{path} is empty (0 bytes).")
    return raw


def _decode(raw: bytes) -> NDArray[np.floating]:
    """(H, W, C), C = 1, 2 (grey and alpha), 3 or 4."""
    picture: Image.Image = Image.open(io.BytesIO(raw))
    layout = _layout(picture)
    if layout in ("RGB;16B", "RGBA;16B"):
        # Pillow keeps the high byte of each number; read as if the bytes were swapped, it keeps the low one.
        high, low = _upright(picture), _upright(_swapped(Image.open(io.BytesIO(raw))))
        return (np.asarray(high, np.float32) * 256 + np.asarray(low, np.float32)) / 65535
    picture = _upright(picture)
    if picture.mode == "F":
        floats = np.array(picture, np.float32)
        if not (floats.min() >= 0 and floats.max() <= 1):  # false for NaN too
            raise _RangeError(
                f"holds floats from {floats.min():.4g} to {floats.max():.4g}: scale them to [0, 1] first."
            )
        return floats[..., None]
    if picture.mode.startswith("I"):
        if picture.mode == "I" and picture.format != "PNG":
            raise _RangeError("holds 32-bit whole numbers, whose range is not stated: save it with 8 or 16 bits.")
        return (np.asarray(picture).astype(np.float32) / 65535)[..., None]
    grey = picture.mode in ("1", "L", "LA", "La")
    see_through = picture.has_transparency_data
    mode = ("LA" if see_through else "L") if grey else ("RGBA" if see_through else "RGB")
    values: NDArray[np.floating] = np.asarray(picture.convert(mode), np.float32) / 255
    if layout == "LA;16B":  # which Pillow makes color
        return values[..., [0, 3]]
    return values[..., None] if values.ndim == 2 else values


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    kind = picture.format
    picture = ImageOps.exif_transpose(picture)
    picture.format = kind  # a turned copy has forgotten it
    return picture


def _layout(picture: Image.Image) -> str:
    """How the numbers lie in a PNG file, "" in another."""
    tile = getattr(picture, "tile", None)
    return str(tile[0].args) if picture.format == "PNG" and tile else ""


def _swapped(picture: Any) -> Image.Image:
    picture.tile = [tile._replace(args=tile.args.replace("16B", "16L")) for tile in picture.tile]
    return picture  # type: ignore[no-any-return]


def _brief(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return "not a format that Pillow knows" if words.startswith("cannot identify") else words.rstrip(".")


# Writing


def write_image(path: str | Path, x: Tensor, *, bits: int = 8) -> None:
    """Writes a picture beside `path` and renames it; the suffix chooses the format.

    Args:
        x: (C, H, W) in [0, 1], up to half a level beyond; C = 1 grey, 2 grey and alpha, 3 color, 4 color and alpha.
        bits: 8, or 16 (PNG only).

    Raises:
        ValueError: for another shape, a value out of range, or a format that cannot hold the picture.
    """
    path = Path(path)
    if x.ndim != 3 or x.shape[0] not in (1, 2, 3, 4) or x.numel() == 0:
        raise ValueError(f"a picture is (C, H, W) with 1 to 4 channels, got the shape {tuple(x.shape)}.")
    if bits not in (8, 16):
        raise ValueError(f"a picture has 8 or 16 bits, got {bits}.")
    if bits == 16 and path.suffix.lower() != ".png":
        raise ValueError(f"16 bits are written as PNG, got {path.name}: name it .png.")
    top = 2**bits - 1
    levels = (x.detach().cpu().double() * top).round()
    if not bool(((levels >= 0) & (levels <= top)).all()):  # false for NaN too
        raise ValueError(
            f"a picture lies in [0, 1], got values from {float(x.min()):.4g} to {float(x.max()):.4g}: clamp it first."
        )
    values = levels.permute(1, 2, 0).numpy()
    if bits == 16:
        with beside(path) as part:
            part.write_bytes(_png16(values.astype(">u2")))
        return
    kinds = Image.registered_extensions()
    kind = kinds.get(path.suffix.lower(), "")
    if kind not in Image.SAVE:
        raise ValueError(
            f"pictures are not written as {path.suffix or 'files without a suffix'}: name it .png or .jpg."
        )
    narrow = values.astype(np.uint8)
    picture = Image.fromarray(narrow[..., 0] if x.shape[0] == 1 else narrow)
    with beside(path) as part:
        try:
            picture.save(part, kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
        except (OSError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk, not the format
                raise
            raise ValueError(f"{path} cannot hold a picture of {x.shape[0]} channels: name it .png.") from error


def _png16(values: NDArray[np.uint16]) -> bytes:
    """A PNG file of big-endian 16-bit numbers (H, W, C), which Pillow does not write in color."""
    h, w, c = values.shape
    rows = values.reshape(h, -1).view(np.uint8)
    body = np.concatenate([np.zeros((h, 1), np.uint8), rows], 1).tobytes()  # each row is led by its filter, 0: none
    head = struct.pack(">IIBBBBB", w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(body, 6)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Folders


class ImageFolder:
    """The pictures below a folder as training data: items are the good files, sorted by path.

    Files whose head is no picture's are left out, with one warning; one that turns out damaged later is warned of once,
    and the next item is taken in its place, so that the order of training never changes.

    Args:
        path: searched with all its subfolders, hidden ones left out.
        size: side of the square crops.
        channels: 1 or 3.
        fit: "resize": the shorter side is brought to `size`; "crop": pictures keep their resolution (those that are
            too small are enlarged). Either way the place of the crop is drawn.
        flip: mirror every second item at random.
        classes: the subfolder of the first level is the label, numbered in the order of `names`.
        cache: bytes of decoded pictures kept in memory.
    """

    codec = Affine.unit()

    def __init__(
        self,
        path: str | Path,
        size: int = 64,
        channels: int = 3,
        *,
        fit: str = "resize",
        flip: bool = True,
        classes: bool = False,
        cache: int = 2**28,
    ) -> None:
        if fit not in ("resize", "crop"):
            raise ValueError(f'fit is "resize" or "crop", got {fit!r}.')
        if size < 1 or channels not in (1, 3):
            raise ValueError(f"crops have a side of at least 1 and 1 or 3 channels, got {size} and {channels}.")
        self.path, self.size, self.channels, self.fit, self.flip = Path(path), size, channels, fit, flip
        self.event = (channels, size, size)
        self.bad: dict[Path, str] = {}
        self.files = self.found()
        self.names: tuple[str, ...] = ()
        if classes:
            labels = self.labels()
            self.names = tuple(sorted(set(labels)))
            self._labels = torch.tensor([self.names.index(label) for label in labels])
        self._cache = Cache(cache)

    def found(self) -> list[Path]:
        """The files of the items."""
        return self._good(pictures(self.path))

    def labels(self) -> list[str]:
        """The class of each item.

        Raises:
            ValueError: if there are none.
        """
        folders = [file.relative_to(self.path).parts[0] for file in self.files]
        if any(file.parent == self.path for file in self.files) or len(set(folders)) < 2:
            raise ValueError(f"{self.path} has no classes: put the pictures of each in a subfolder of its own.")
        return folders

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Tensor | None]:
        """(x0, cond): crops (B, C, size, size) in model space, [-1, 1]; their labels, or None."""
        crops, used = [], []
        for item, stream in zip(items, noise.streams, strict=True):
            picture, item = self._picture(item)
            crops.append(self._crop(picture, stream))
            used.append(item)
        x0 = torch.stack(crops).float().div_(127.5).sub_(1.0)
        return x0, self._labels[used] if self.names else None

    def read(self, file: Path) -> Tensor:
        """The picture of a file, (C, H, W) in [0, 1]."""
        return read_image(file, channels=self.channels)

    def _crop(self, picture: Tensor, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(3))
        room = torch.tensor(picture.shape[1:]) - self.size + 1
        top, left = (u[:2] * room).long().tolist()
        crop = picture[:, top : top + self.size, left : left + self.size]
        return crop.flip(2) if self.flip and u[2] < 0.5 else crop

    def _picture(self, item: int) -> tuple[Tensor, int]:
        """The picture of an item, uint8 (C, H, W), and the item: the next good one where the file is damaged."""
        for at in range(item, item + len(self.files)):
            at, file = at % len(self.files), self.files[at % len(self.files)]
            if file in self.bad:
                continue
            picture = self._cache.get(at)
            if picture is None:
                try:
                    picture = self._cache.put(at, self._fitted(self.read(file)))
                except (ValueError, OSError) as error:
                    self.bad[file] = str(error)
                    warnings.warn(f"left out: {error}", stacklevel=4)
                    continue
            return picture, at
        raise ValueError(f"no picture below {self.path} can be read any more.")

    def _fitted(self, x: Tensor) -> Tensor:
        """uint8, the shorter side at `size` (or, to be cropped, at least that)."""
        short = min(x.shape[1:])
        if self.fit == "resize" or short < self.size:
            h, w = (min(n, PANORAMA * short) for n in x.shape[1:])
            top, left = (x.shape[1] - h) // 2, (x.shape[2] - w) // 2
            size = [max(self.size, round(n * self.size / short)) for n in (h, w)]
            x = x[None, :, top : top + h, left : left + w]
            x = F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0.0, 1.0)
        return (x * 255).round().to(torch.uint8)

    def _good(self, files: Sequence[Path]) -> list[Path]:
        for file in files:
            try:
                with Image.open(file):
                    pass
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                self.bad[file] = "empty" if file.stat().st_size == 0 else _brief(error)
        good = [file for file in files if file not in self.bad]
        if not good:
            raise ValueError(f"there is no picture below {self.path} that can be read ({len(self.bad)} damaged).")
        if self.bad:
            some = ", ".join(f"{file.name} ({why})" for file, why in list(self.bad.items())[:5])
            dots = ", ..." if len(self.bad) > 5 else ""
            warnings.warn(f"{len(self.bad)} of {len(files)} pictures are left out: {some}{dots}.", stacklevel=3)
        return good


class CleanPictures(ImageFolder):
    """The clean pictures of the train split of a benchmark set, `path` being NAME:DIR, as training data."""

    def found(self) -> list[Path]:
        from sfumato.data import layouts

        named = layouts.parse(str(self.path))
        if named is None:
            raise ValueError(f"a benchmark set is named as NAME:DIR, got {self.path}.")
        return self._good(layouts.clean(*named, "train"))


class Cache:
    """The tensors used last, up to a number of bytes in all."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def get(self, key: int) -> Tensor | None:
        """What was put under `key`, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: int, value: Tensor) -> Tensor:
        """`value`, which is kept if it fits; those that were not used for longest make room."""
        if value.nbytes <= self.limit and key not in self._kept:
            self._kept[key] = value
            self.bytes += value.nbytes
            while self.bytes > self.limit:
                self.bytes -= self._kept.popitem(last=False)[1].nbytes
        return value


def suffixes() -> set[str]:
    """The suffixes of pictures that can be read, in lower case, with their dots."""
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def pictures(path: Path) -> list[Path]:
    """Files below a folder that are named as pictures, sorted; hidden ones are left out.

    Raises:
        FileNotFoundError: if it is no folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder of pictures.")
    known = suffixes()
    found = (file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(path).parts))
