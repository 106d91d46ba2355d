"""NIfTI files (extra `medical`)."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data.files import beside
from sfumato.data.medical import Scan, library, stored


def read(path: Path) -> Scan:
    """The volume of a NIfTI file; see `medical.read`."""
    nibabel = library("nibabel", "NIfTI")
    try:
        image = nibabel.load(path)
        raw = np.asanyarray(image.dataobj.get_unscaled())
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path} is damaged or no NIfTI file ({' '.join(str(error).split())}).") from None
    if raw.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds numbers of the type {raw.dtype}: real grey values are needed, no colors.")
    shape = raw.shape
    if len(shape) < 2 or any(n > 1 for n in shape[3:]):
        raise ValueError(f"{path} has the size {shape}: one volume is needed, split a series of them first.")
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    values = torch.from_numpy(raw.astype(np.float64)) * slope + intercept
    values = values.reshape(*shape[:2], shape[2] if len(shape) > 2 else 1)
    affine = torch.from_numpy(np.array(image.affine, np.float64))
    spacing = affine[:3, :3].norm(dim=0)
    suffix = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    axis = 2 if values.shape[2] == 1 else max(range(3), key=lambda a: (round(float(spacing[a]), 4), a))
    return Scan(values, affine, axis, origin=Origin(image, raw.dtype, shape, slope, intercept, suffix))


@dataclass(frozen=True, eq=False)
class Origin:
    """The file as it was: header, number format, size, scaling, suffix."""

    image: Any
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    slope: float
    intercept: float
    suffix: str

    def write(self, values: Tensor, path: Path, note: str) -> None:
        """See `medical.write`."""
        if self.dtype.kind == "f":
            numbers = ((values - self.intercept) / self.slope).numpy()
        else:
            limits = np.iinfo(self.dtype)
            numbers = stored(values, self.slope, self.intercept, limits.min, limits.max).numpy()
        header = self.image.header.copy()
        if note:
            header["descrip"] = note.encode()[:79]
        image = type(self.image)(numbers.reshape(self.shape).astype(self.dtype), self.image.affine, header)
        # with a scaling in the header nibabel writes the numbers as they are; without, it would find its own
        image.header.set_slope_inter(self.slope, self.intercept)
        content = image.to_bytes()
        with beside(path) as part:
            part.write_bytes(gzip.compress(content, mtime=0) if path.name.lower().endswith(".gz") else content)
