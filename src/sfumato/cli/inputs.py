"""What commands read: a picture, or an array in a NumPy file; checked here, so that nothing wrong goes further."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ARRAYS = (".npy", ".npz")


def read(path: Path) -> Tensor:
    """One item in data space: a picture (C, H, W) in [0, 1], or the one array of a NumPy file, (H, W) becoming
    (1, H, W).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or empty, or holds what is no number.
    """
    from sfumato.data.files import present

    present(path)
    if path.suffix.lower() in ARRAYS:
        return _array(path)
    from sfumato.data import images

    return images.read_image(path)


def _array(path: Path) -> Tensor:
    import numpy as np
    import torch

    from sfumato.data.numpy_files import read_arrays

    held = read_arrays(path)
    if len(held) != 1:
        raise ValueError(f"{path} holds {len(held)} arrays, one is expected.")
    (loaded,) = held.values()
    if loaded.dtype.kind not in "fiub" or loaded.size == 0:
        raise ValueError(f"{path} holds {loaded.dtype} of shape {loaded.shape}: real numbers are expected.")
    if loaded.dtype.kind in "iu":
        raise ValueError(
            f"{path} holds whole numbers ({loaded.dtype}), whose range is not stated: scale them to [0, 1] as float."
        )
    x = torch.from_numpy(loaded.astype(np.float32))
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{path} holds NaN or infinite numbers: put zeros there and mark them with a mask.")
    return x.unsqueeze(0) if x.ndim == 2 else x
