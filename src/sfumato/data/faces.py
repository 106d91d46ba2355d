"""A hundred faces of 25 x 25 pixels: what Debian's python3-skimage has of Labeled Faces in the Wild (BSD-3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.data.photo12 import PACKAGES, SKIMAGE


def lfw_faces(root: Path) -> Tensor:
    """The faces, (100, 1, 25, 25), grey, data space, [0, 1]; the file's other hundred are no faces.

    Args:
        root: where the package is unpacked.

    Raises:
        FileNotFoundError: naming the package.
        ValueError: if the file holds something else.
    """
    path = root / SKIMAGE / "lfw_subset.npy"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: {PACKAGES[SKIMAGE]}.")
    found = np.load(path, allow_pickle=False)
    if found.shape != (200, 25, 25):
        raise ValueError(f"{path} holds an array of shape {found.shape}, expected (200, 25, 25).")
    return torch.from_numpy(found[:100]).float().clamp(0.0, 1.0).unsqueeze(1)
