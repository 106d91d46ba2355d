"""Scans: NIfTI volumes, DICOM files and folders of a DICOM series, read and written back with all their files say.

The extra `medical` (nibabel, pydicom) reads them. Nothing is turned or resampled: `affine` says how the array lies in
the patient. What is written has the size, orientation, scaling and number format of what was read.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.data.files import present

NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom", ".ima")
HOUNSFIELD = (-1000.0, 1500.0)  # (ours) the window of CT: air to dense bone, what `head` was trained with


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume, or a single slice as one of a single layer.

    Args:
        values: (I, J, K) float64, in the unit of the file: stored numbers times slope plus intercept.
        affine: (4, 4) float64, from an index (i, j, k, 1) to millimetres to the right, forwards and upwards (RAS).
        axis: across the slices: where the spacing is largest, and of equal ones the file's own.
        modality: as DICOM writes it ("MR", "CT"); "" where the file does not say.
        window: (low, high) that the file proposes for viewing, if it does.
        origin: what the writer of the format needs, its own matter.
    """

    values: Tensor
    affine: Tensor
    axis: int
    modality: str = ""
    window: tuple[float, float] | None = None
    origin: Any = field(default=None, repr=False)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along each axis, mm."""
        i, j, k = self.affine[:3, :3].norm(dim=0).tolist()
        return i, j, k

    @property
    def slices(self) -> Tensor:
        """(S, H, W): the slices, first to last."""
        return self.values.movedim(self.axis, 0)

    @property
    def range(self) -> tuple[float, float]:
        """What is 0 and 1 to a model: of CT `HOUNSFIELD`; else 0 (or the least number, if negative) and the largest.

        Raises:
            ValueError: where all numbers are equal.
        """
        if self.modality == "CT":
            return HOUNSFIELD
        low, high = min(0.0, float(self.values.min())), float(self.values.max())
        if high <= low:
            raise ValueError(f"this scan is empty: every number is {high:g}.")
        return low, high


def is_scan(path: Path) -> bool:
    """Whether this is a NIfTI or DICOM file by its name or its first bytes, or a folder that holds DICOM files."""
    if path.is_dir():
        return any(is_dicom(p) for p in sorted(path.iterdir()) if p.is_file())
    return path.name.lower().endswith(NIFTI) or is_dicom(path)


def is_dicom(path: Path) -> bool:
    """By the suffix, or the letters that DICOM files have at byte 128."""
    if path.suffix.lower() in DICOM:
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def read(path: Path) -> Scan:
    """The scan in a NIfTI file, a DICOM file, or a folder of the DICOM files of one series.

    Raises:
        ImportError: without the extra `medical`.
        FileNotFoundError: if nothing is there.
        ValueError: for a damaged file, colors, time series, or a compression whose plug-in is missing.
    """
    if path.is_dir():
        from sfumato.data import dicom

        return dicom.read_series(path)
    present(path)
    if path.name.lower().endswith(NIFTI):
        from sfumato.data import nifti

        return nifti.read(path)
    from sfumato.data import dicom

    return dicom.read(path)


def write(scan: Scan, values: Tensor, path: Path, *, note: str = "") -> None:
    """Writes `values`, of the size and unit of `scan.values`, in the format of the scan, with its orientation.

    Integers are rounded and held to what the format can store. A series is a folder of the same file names.

    Args:
        note: what was done; it marks DICOM files as derived, with identifiers of their own, and is put into the
            description of a NIfTI file. Empty: a copy.

    Raises:
        ValueError: for another size, or numbers that are not finite.
    """
    if values.shape != scan.values.shape:
        raise ValueError(f"the scan has the size {tuple(scan.values.shape)}, got values of {tuple(values.shape)}.")
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the values hold NaN or infinite numbers: nothing is written.")
    scan.origin.write(values.detach().cpu().double(), path, note)


def library(name: str, files: str) -> Any:
    """nibabel or pydicom.

    Raises:
        ImportError: naming the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{files} files need {name}: pip install 'sfumato[medical]'.") from error


def stored(values: Tensor, slope: float, intercept: float, low: int, high: int) -> Tensor:
    """The integers that a file holds for `values`: (v - intercept) / slope, rounded and held to [low, high]."""
    return ((values - intercept) / slope).round().clamp(low, high)
