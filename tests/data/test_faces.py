"""The faces of python3-skimage: the first hundred, and files that hold something else."""

import numpy as np
import pytest
import torch

from sfumato.data.faces import lfw_faces
from sfumato.data.photo12 import SKIMAGE


def test_the_first_hundred_are_the_faces(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get download python3-skimage"):
        lfw_faces(tmp_path)
    folder = tmp_path / SKIMAGE
    folder.mkdir(parents=True)
    values = np.linspace(-0.1, 1.1, 200)[:, None, None] * np.ones((1, 25, 25))
    np.save(folder / "lfw_subset.npy", values)
    x = lfw_faces(tmp_path)
    assert x.shape == (100, 1, 25, 25) and x.dtype == torch.float32
    torch.testing.assert_close(x[:, 0].double(), torch.from_numpy(values[:100]).clamp(0, 1), atol=1e-6, rtol=0)
    np.save(folder / "lfw_subset.npy", values[:, :24])
    with pytest.raises(ValueError, match=r"of shape \(200, 24, 25\), expected \(200, 25, 25\)"):
        lfw_faces(tmp_path)
