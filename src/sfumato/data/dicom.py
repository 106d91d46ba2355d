"""DICOM files and series (extra `medical`)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data.files import beside
from sfumato.data.medical import Scan, is_dicom, library, stored


def read(path: Path) -> Scan:
    """The slice, or the frames, of a DICOM file; see `medical.read`."""
    return _scan([path], [_dataset(path)], folder=False)


def read_series(folder: Path) -> Scan:
    """The volume of the DICOM files in a folder, in the order in which the slices lie (or of their numbers).

    Raises:
        ValueError: if there are none, they are of several series or sizes, or lie in several directions.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)]
    if not paths:
        raise ValueError(f"{folder} has no DICOM files.")
    found = [_dataset(path) for path in paths]
    for what, name in (
        ("series", "SeriesInstanceUID"),
        ("heights", "Rows"),
        ("widths", "Columns"),
        ("directions", "ImageOrientationPatient"),
        ("frames", "NumberOfFrames"),
    ):
        several = {_word(d.get(name)) for d in found}
        if len(several) > 1:
            raise ValueError(f"{folder} holds {what} of {len(several)} kinds: give a folder of one series.")
    if len({round(_place(d), 3) for d in found}) < len(found):
        raise ValueError(f"{folder} holds several slices of one place: a series of volumes, split it first.")
    order = sorted(range(len(paths)), key=lambda i: (_place(found[i]), paths[i].name))
    return _scan([paths[i] for i in order], [found[i] for i in order], folder=True)


def _dataset(path: Path) -> Any:
    pydicom = library("pydicom", "DICOM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is said below, in one sentence
            data = pydicom.dcmread(path)
            rows = data.get("Rows")
    except (pydicom.errors.InvalidDicomError, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged or no DICOM file ({' '.join(str(error).split())}).") from None
    if rows is None or "PixelData" not in data:
        raise ValueError(f"{path} holds no picture.")
    if data.get("SamplesPerPixel", 1) != 1 or not str(data.get("PhotometricInterpretation")).startswith("MONOCHROME"):
        raise ValueError(f"{path} is in color ({data.get('PhotometricInterpretation')}): grey values are needed.")
    return data


def _word(value: Any) -> str:
    """A field to compare: numbers to three decimals, since scanners round each slice's directions by themselves."""
    if isinstance(value, str | int) or value is None:
        return str(value)
    return str([round(float(v), 3) + 0.0 for v in value])


def _pixels(path: Path, data: Any) -> np.ndarray:
    """The stored integers, (frames, H, W)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = np.asarray(data.pixel_array)
    except Exception as error:  # plug-ins raise what they like
        name = data.file_meta.TransferSyntaxUID.name if "TransferSyntaxUID" in data.file_meta else "unknown"
        if data.file_meta.get("TransferSyntaxUID") and data.file_meta.TransferSyntaxUID.is_compressed:
            raise ValueError(
                f"{path} is compressed ({name}), and no plug-in here decodes it: pip install pylibjpeg "
                "pylibjpeg-libjpeg pylibjpeg-openjpeg, or store it uncompressed."
            ) from None
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}).") from None
    return raw.reshape(-1, *raw.shape[-2:])


def _scan(paths: Sequence[Path], found: Sequence[Any], *, folder: bool) -> Scan:
    scaling = [(float(d.get("RescaleSlope") or 1.0), float(d.get("RescaleIntercept") or 0.0)) for d in found]
    raw = [_pixels(path, data) for path, data in zip(paths, found, strict=True)]
    layers = [torch.from_numpy(r.astype(np.float64)) * a + b for r, (a, b) in zip(raw, scaling, strict=True)]
    first, window = found[0], None
    centre, width = first.get("WindowCenter"), first.get("WindowWidth")
    if centre not in (None, "") and width not in (None, ""):
        c, w = (float(v if isinstance(v, int | float) else v[0]) for v in (centre, width))
        window = (c - w / 2, c + w / 2) if w > 0 else None
    origin = Origin(tuple(p.name for p in paths), tuple(found), tuple(scaling), tuple(len(r) for r in raw), folder)
    return Scan(torch.cat(layers), _affine(found), 0, str(first.get("Modality") or ""), window, origin)


def _directions(data: Any) -> np.ndarray:
    """Unit vectors along a row, along a column and across, as columns, in DICOM's own axes (LPS)."""
    words = data.get("ImageOrientationPatient")
    along = np.array([float(v) for v in words] if words else [1, 0, 0, 0, 1, 0], np.float64).reshape(2, 3)
    return np.stack([along[0], along[1], np.cross(along[0], along[1])], 1)


def _corner(data: Any) -> np.ndarray:
    words = data.get("ImagePositionPatient")
    return np.array([float(v) for v in words] if words else [0, 0, 0], np.float64)


def _place(data: Any) -> float:
    """How far along its normal a slice lies; its number in the series where it does not say."""
    if data.get("ImagePositionPatient"):
        return float(_directions(data)[:, 2] @ _corner(data))
    return float(data.get("InstanceNumber") or 0)


def _affine(found: Sequence[Any]) -> Tensor:
    """From (slice, row, column) to RAS: DICOM's axes run to the left and backwards.

    Source: DICOM PS3.3 C.7.6.2.1.1.
    """
    first, last, axes = found[0], found[-1], _directions(found[0])
    row, column = (float(v) for v in first.get("PixelSpacing") or (1.0, 1.0))
    step = axes[:, 2] * float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0)
    apart = (_corner(last) - _corner(first)) / max(1, len(found) - 1)
    lps = np.eye(4)
    lps[:3, 0] = apart if np.linalg.norm(apart) > 0 else step
    lps[:3, 1], lps[:3, 2], lps[:3, 3] = axes[:, 1] * row, axes[:, 0] * column, _corner(first)
    return torch.from_numpy(np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)


@dataclass(frozen=True, eq=False)
class Origin:
    """The files as they were, in the order of the slices."""

    names: tuple[str, ...]
    datasets: tuple[Any, ...]
    scaling: tuple[tuple[float, float], ...]
    frames: tuple[int, ...]
    folder: bool

    @property
    def suffix(self) -> str:
        """Of the name of a copy: none for the folder of a series."""
        return "" if self.folder else ".dcm"

    def write(self, values: Tensor, path: Path, note: str) -> None:
        """See `medical.write`."""
        parts = values.split(list(self.frames))
        for name, data, scale, part in zip(self.names, self.datasets, self.scaling, parts, strict=True):
            with beside(path / name if self.folder else path) as beside_it:
                _filled(data, part, scale, note).save_as(beside_it, enforce_file_format=True)


def _filled(data: Any, values: Tensor, scaling: tuple[float, float], note: str) -> Any:
    """A copy of the data set with these values; uncompressed, as the compressed bytes would not be the same again."""
    pydicom, data = library("pydicom", "DICOM"), copy.deepcopy(data)
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    numbers = stored(values, *scaling, low, high).numpy()
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        data.file_meta.TransferSyntaxUID = syntax = pydicom.uid.ExplicitVRLittleEndian
        data["PixelData"].is_undefined_length = False
    order = "<" if syntax.is_little_endian else ">"
    data.PixelData = numbers.astype(f"{order}{'i' if signed else 'u'}{data.BitsAllocated // 8}").tobytes()
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    if len(data.PixelData) % 2:
        data.PixelData += b"\0"
    if note:
        kind = list(data.get("ImageType") or ["ORIGINAL", "PRIMARY"])
        data.ImageType, data.DerivationDescription = ["DERIVED", *kind[1:]], note
        for name in ("SOPInstanceUID", "SeriesInstanceUID"):
            if data.get(name):
                setattr(data, name, pydicom.uid.generate_uid(entropy_srcs=[str(data.get(name)), note]))
        data.file_meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID")
    return data
