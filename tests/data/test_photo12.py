"""photo12: the crops, and what is said when a package is missing."""

import importlib.machinery
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import photo12 as module
from sfumato.data.photo12 import CROPS, SKLEARN, fixture, photo12, read_picture

SIZES = {  # (width, height) of the originals
    "astronaut": (512, 512),
    "camera": (512, 512),
    "chelsea": (451, 300),
    "coffee": (600, 400),
    "rocket": (640, 427),
    "motorcycle_left": (741, 500),
    "china": (640, 427),
    "flower": (640, 427),
    "baboon": (512, 512),
    "fruits": (512, 480),
    "building": (868, 600),
    "home": (512, 384),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with ramps instead of photographs: red counts columns, green counts rows (both modulo 256)."""
    spec = importlib.machinery.ModuleSpec("sklearn", None, origin=str(tmp_path / "sklearn/__init__.py"))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "sklearn" else real(name))
    for name, (folder, file, _, _) in CROPS.items():
        width, height = SIZES[name]
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        ramp = np.stack([columns % 256, rows % 256, 0 * rows], -1).astype(np.uint8)
        path = tmp_path / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(ramp)
        if name == "camera":
            picture = Image.fromarray(ramp[..., 0])
        picture.save(path, format="PNG")
    return tmp_path


def test_crops_are_the_centres(root):
    found = dict(photo12(root))
    assert list(found) == list(SIZES)
    for name, (width, height) in SIZES.items():
        left, top = (width - 256) // 2, (height - 256) // 2
        picture = (255 * found[name]).round().long()
        assert picture.shape == (3, 256, 256) and found[name].dtype == torch.float32
        assert torch.equal(picture[0, 0], (left + torch.arange(256)) % 256)
        if name == "camera":
            assert torch.equal(picture[0], picture[1]) and torch.equal(picture[0], picture[2])
        else:
            assert torch.equal(picture[1, :, 0], (top + torch.arange(256)) % 256)
            assert int(picture[2].max()) == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("rocket", "apt-get download python3-skimage"),
        ("home", "apt-get download opencv-doc"),
        ("china", "scikit-learn"),
    ],
)
def test_a_missing_file_names_its_package_before_any_picture(root, name, hint):
    folder, file = CROPS[name][:2]
    (root / folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} of photo12 is not there: .*{hint}"):
        next(photo12(root))


def test_scikit_learn_missing(root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install scikit-learn"):
        next(photo12(root))


def test_scikit_learn_is_found_where_python_finds_it(root):
    assert module._folder(Path("/nowhere"), SKLEARN) == root / SKLEARN


def test_the_fixture_is_a_colour_photograph_in_the_unit_range():
    picture = fixture()
    assert picture.shape == (3, 256, 256)
    assert float(picture.min()) >= 0.0 and 0.95 < float(picture.max()) <= 1.0
    assert float((picture[0] - picture[2]).abs().mean()) > 0.05


def test_read_picture_is_the_pixel_over_255(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(tmp_path / "p.png")
    assert torch.equal(read_picture(tmp_path / "p.png"), torch.arange(12.0).reshape(2, 2, 3).permute(2, 0, 1) / 255)
