"""What a scanner measured, in a NumPy file: k-space of one or several coils, or projections, as a measurement.

    np.savez("scan.npz", kspace=..., mask=..., maps=...)              # complex; mask and maps may be left out
    np.savez("scan.npz", sinogram=..., angles=..., size=..., source=..., behind=..., spacing=...)  # the last: a fan

`kspace` is (H, W) or (coils, H, W), zero frequency in the middle, 0 where nothing was sampled; `angles` are degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.data.numpy_files import read_arrays
from sfumato.operators import SENSE, Linear, Measurement, Radon, kspace
from sfumato.operators.espirit import espirit
from sfumato.operators.sense import low_resolution


@dataclass(frozen=True, eq=False)
class Raw:
    """The measurement of one slice in [0, 1], the number that is 1 there, and what was found or taken for granted."""

    measurement: Measurement
    white: float
    words: str


def read(path: Path, kind: str, sigma: float | None) -> Raw:
    """k-space for "mri", projections for "ct".

    White is the largest number of a first reconstruction. Without maps these are ESPIRiT's of the fully sampled middle
    (for one coil 1), and the smooth phase of the image is put into them, so that a real image fits.

    Args:
        sigma: standard deviation of the noise, of each part of k-space, in parts of white; estimated from the corners
            of k-space if not given.

    Raises:
        ValueError: for another file, arrays that do not go together, or projections without sigma.
    """
    arrays = read_arrays(path)
    first = "kspace" if kind == "mri" else "sinogram"
    if first not in arrays:
        have = ", ".join(arrays) or "none"
        raise ValueError(f"{path} has no array {first!r}, only {have}: --operator {kind} needs it.")
    if not all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind in "fc"):
        raise ValueError(f"{path} holds NaN or infinite numbers.")
    return _kspace(path, arrays, sigma) if kind == "mri" else _sinogram(path, arrays, sigma)


def _kspace(path: Path, arrays: dict[str, NDArray], sigma: float | None) -> Raw:
    data = arrays["kspace"]
    if data.ndim not in (2, 3) or data.dtype.kind != "c":
        raise ValueError(f"kspace is complex, (H, W) or (coils, H, W), got {data.dtype} {data.shape} in {path}.")
    spectrum = torch.from_numpy(data.astype(np.complex64)).reshape(-1, *data.shape[-2:])
    mask = torch.from_numpy(arrays["mask"] != 0) if "mask" in arrays else (spectrum != 0).any(0)
    if mask.shape != spectrum.shape[1:] or not bool(mask.any()):
        raise ValueError(f"the mask {tuple(mask.shape)} does not fit k-space {tuple(spectrum.shape)}, or sees nothing.")
    y = kspace.to_channels(spectrum * mask)
    width = _middle(mask)
    if "maps" in arrays:
        maps, words = torch.from_numpy(arrays["maps"].astype(np.complex64)), "given maps"
        if maps.reshape(-1, *maps.shape[-2:]).shape != spectrum.shape:
            raise ValueError(f"the maps {tuple(maps.shape)} do not fit k-space {tuple(spectrum.shape)} in {path}.")
        maps = maps.reshape(spectrum.shape)
    elif len(spectrum) == 1:
        maps, words = torch.ones_like(spectrum), "one coil"
    elif width > 6:
        maps, words = espirit(y, width), f"ESPIRiT maps from the middle {width} x {width}"
    else:
        raise ValueError(
            f"{path} has no maps, and its middle, {width} points wide, is too small to find them: at least 7."
        )
    smooth = (maps.conj() * low_resolution(y, max(width, 4))).sum(0)  # the image's own phase, where it is smooth
    maps = maps * torch.where(smooth.abs() > 0, smooth / smooth.abs().clamp(min=1e-30), 1.0)
    A: Linear = SENSE(maps, mask)
    white = float(A.adjoint(y[None]).max())
    if not white > 0.0:
        raise ValueError(f"{path}: nothing is bright in its first reconstruction.")
    y = y[None] / white
    if sigma is None:
        sigma = corner_noise(y[0], mask)
        words += f"; sigma {sigma:.4g} from the corners of k-space"
    return Raw(Measurement(A, y, sigma), white, words)


def _sinogram(path: Path, arrays: dict[str, NDArray], sigma: float | None) -> Raw:
    data = arrays["sinogram"]
    if data.ndim != 2 or data.dtype.kind not in "fiu" or "angles" not in arrays or "size" not in arrays:
        raise ValueError(f"{path} needs sinogram (views, detectors), angles (degrees) and size (H, W).")
    angles, size = arrays["angles"].ravel(), arrays["size"].ravel()
    if len(angles) != len(data) or len(size) != 2:
        raise ValueError(
            f"{len(angles)} angles and the size {size.tolist()} do not fit projections {data.shape} in {path}."
        )
    if sigma is None:
        raise ValueError(f"{path}: --sigma is needed for projections, in parts of white times pixels.")
    one = {key: float(arrays[key]) for key in ("source", "behind", "spacing") if key in arrays}
    turns = tuple(math.radians(float(a)) for a in angles)
    A = Radon((int(size[0]), int(size[1])), turns, data.shape[1], rounds=30, **one)  # type: ignore[arg-type]
    y = torch.from_numpy(data.astype(np.float32))[None, None]
    white = float(A.pinv(y).max())
    if not white > 0.0:
        raise ValueError(f"{path}: nothing is bright in its first reconstruction.")
    words = "parallel lines" if A.source is None else "a fan"
    return Raw(Measurement(A, y / white, sigma), white, words)


def corner_noise(y: Tensor, mask: Tensor) -> float:
    """Standard deviation of each part of k-space in its outermost tenth, where least is signal: (coils, 2, H, W)."""
    H, W = mask.shape
    far = ((torch.arange(H) - H // 2) / H).square()[:, None] + ((torch.arange(W) - W // 2) / W).square()
    seen = far[mask]
    edge = seen.quantile(0.9)
    return float(y[..., mask & (far >= edge)].abs().median() / 0.6745)


def _middle(mask: Tensor) -> int:
    """Side of the largest square around zero frequency that was fully sampled."""
    H, W = mask.shape
    width = 0
    for n in range(1, min(H, W) + 1):
        top, left = (H - n + 1) // 2, (W - n + 1) // 2
        if not bool(mask[top : top + n, left : left + n].all()):
            break
        width = n
    return width
