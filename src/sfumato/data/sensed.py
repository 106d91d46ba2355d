"""Compressed measurements of a picture, in a NumPy file, with what was measured.

    np.savez("sums.npz", sensed=..., rows=...)              # of blocks: (C, H / b, W / b, m); rows (b * b, b * b)
    np.savez("sums.npz", sensed=..., order=..., size=...)   # of a Walsh-Hadamard transform: (C, m); (n,); (H, W)

The numbers are those of a picture with black 0 and white 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sfumato.data.numpy_files import read_arrays
from sfumato.operators import BlockSensing, Hadamard, Measurement, Operator


def read(path: Path, sigma: float) -> Measurement:
    """The measurement, one row, through `BlockSensing` or `Hadamard`; more rows or places than m say what was left out.

    Raises:
        ValueError: for another file, or arrays that do not go together.
    """
    held = read_arrays(path)
    if "sensed" not in held or not ({"rows"} <= set(held) or {"order", "size"} <= set(held)):
        raise ValueError(
            f"{path} holds {', '.join(held) or 'nothing'}: sensed and rows, or sensed, order and size are needed."
        )
    if held["sensed"].dtype.kind not in "fiu" or not np.isfinite(held["sensed"]).all():
        raise ValueError(f"{path}: sensed holds numbers that are not real or not finite.")
    y = torch.from_numpy(held["sensed"].astype(np.float32))[None]
    axes = ("C", "H / b", "W / b", "m") if "rows" in held else ("C", "m")
    if y.ndim != len(axes) + 1:
        raise ValueError(f"{path}: sensed is ({', '.join(axes)}), got {tuple(y.shape[1:])}.")
    if "rows" in held:
        operator: Operator = BlockSensing(torch.from_numpy(held["rows"].astype(np.float64)), y.shape[-1])
    else:
        size = tuple(int(n) for n in held["size"].ravel())
        operator = Hadamard(torch.from_numpy(held["order"].astype(np.int64)), y.shape[-1], size)
    return Measurement(operator, y, sigma)
