"""NumPy files as training data: pictures of whole numbers, or signals and fields of floats."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.codecs import Affine
from sfumato.data.numpy_files import read_arrays
from sfumato.noise import Seeds

CHUNK = 1024  # items looked at together


class Arrays:
    """An array whose first axis counts the items, with labels if there are any.

    uint8, uint16: pictures (N, H, W) or (N, H, W, C), full range, model space [-1, 1]. Floats: signals (N, L) or
    (N, C, L), or fields (N, C, H, W), brought to mean 0 and standard deviation 0.5 by one shift and one scale.

    Args:
        values: the array; may be mapped from disk.
        labels: (N,) whole numbers from 0, or None.

    Raises:
        ValueError: for other shapes or types, for NaN, or data that are all the same.
    """

    def __init__(self, values: NDArray, labels: NDArray | None = None) -> None:
        axes, widest = {"u": ((3, 4), 2), "f": ((2, 3, 4), 8)}.get(values.dtype.kind, ((), 0))
        if values.ndim not in axes or values.dtype.itemsize > widest or values.size == 0:
            raise ValueError(
                "training data are uint8 or uint16 pictures (N, H, W) or (N, H, W, C), or floats (N, L), (N, C, L) or "
                f"(N, C, H, W), got {values.dtype} of shape {values.shape}."
            )
        self.values, self.pictures = values, values.dtype.kind == "u"
        self.codec = Affine.unit() if self.pictures else _standard(values)
        self.event = tuple(self._items([0]).shape[1:])
        self.names: tuple[str, ...] = ()
        if labels is not None:
            if labels.shape != values.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
                raise ValueError(
                    f"labels are ({len(values)},) whole numbers from 0, got {labels.dtype} of shape {labels.shape}."
                )
            self._labels = torch.from_numpy(labels.astype(np.int64))
            self.names = tuple(str(i) for i in range(int(self._labels.max()) + 1))

    @classmethod
    def read(cls, path: str | Path) -> Arrays:
        """From a .npy file, mapped from disk, or a .npz with "x" (or one array) and, if there are labels, "y".

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if it is damaged, or holds something else.
        """
        path = Path(path)
        held = read_arrays(path, mapped=True)
        labels = held.pop("y", None)
        if "x" not in held and len(held) != 1:
            raise ValueError(f'{path} holds {", ".join(held) or "nothing"}: name the data "x" and the labels "y".')
        try:
            return cls(held.get("x", next(iter(held.values()))), labels)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Tensor | None]:
        """(x0, cond): (B, *event) in model space, float32; labels, or None. Nothing is drawn."""
        x0 = self.codec.encode(self._items(items)).float()
        return x0, self._labels[items] if self.names else None

    def _items(self, items: list[int]) -> Tensor:
        """Data space: float64, channels first."""
        x = torch.from_numpy(np.asarray(self.values[items], np.float64))
        if self.pictures:
            x = x / np.iinfo(self.values.dtype).max
            return x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
        return x.unsqueeze(1) if x.ndim == 2 else x


def _standard(values: NDArray) -> Affine:
    """The codec under which the numbers have mean 0 and standard deviation 0.5, EDM's sigma_data."""
    total, square = 0.0, 0.0
    for first in range(0, len(values), CHUNK):
        total += float(np.asarray(values[first : first + CHUNK], np.float64).sum())
    mean = total / values.size
    for first in range(0, len(values) if math.isfinite(mean) else 0, CHUNK):
        square += float(((np.asarray(values[first : first + CHUNK], np.float64) - mean) ** 2).sum())
    std = math.sqrt(square / values.size)
    if not 0.0 < std < math.inf:
        raise ValueError(f"data that can be trained on are finite and not all the same, got mean {mean}, std {std}.")
    return Affine(2.0 * std, mean)
