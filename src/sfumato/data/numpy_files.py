"""Arrays of NumPy's files, .npy and .npz, by name. Nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.data.files import present


def read_arrays(path: Path, *, mapped: bool = False) -> dict[str, NDArray[Any]]:
    """The arrays of a file: of .npz by their names, of .npy as "x".

    Args:
        mapped: leaves the numbers of .npy on the disk until they are used.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is damaged, holds objects, or is no such file.
    """
    try:
        loaded = np.load(present(path), mmap_mode="r" if mapped else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (FileNotFoundError, IsADirectoryError, MemoryError):
        raise
    except Exception as error:  # a damaged header fails as text, as Python, as zip, as deflate, or as a shape
        raise ValueError(f"{path} is damaged or no NumPy file ({' '.join(str(error).split())}).") from None
