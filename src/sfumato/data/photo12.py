"""The evaluation set photo12: twelve standard test pictures as 256 x 256 centre crops. No shipped model is trained on
any of them.

They ship inside ordinary packages: Debian's python3-skimage (BSD-3, notes by picture in its copyright file) and
opencv-doc (Apache-2.0), unpacked under one root (`apt-get download NAME; dpkg -x NAME_*.deb ROOT`, or installed: root
`/`), and the pip package scikit-learn (BSD-3; china and flower are CC BY 2.0). Figures on it are comparable only crop
by crop, hence the corners below.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE = 256
SKIMAGE = "usr/lib/python3/dist-packages/skimage/data"
OPENCV = "usr/share/doc/opencv-doc/examples/data"
SKLEARN = "sklearn/datasets/images"
# name: (folder, file, left, top) of the crop; the camera is grey, and is repeated in three channels.
CROPS = {
    "astronaut": (SKIMAGE, "astronaut.png", 128, 128),
    "camera": (SKIMAGE, "camera.png", 128, 128),
    "chelsea": (SKIMAGE, "chelsea.png", 97, 22),
    "coffee": (SKIMAGE, "coffee.png", 172, 72),
    "rocket": (SKIMAGE, "rocket.jpg", 192, 85),
    "motorcycle_left": (SKIMAGE, "motorcycle_left.png", 242, 122),
    "china": (SKLEARN, "china.jpg", 192, 85),
    "flower": (SKLEARN, "flower.jpg", 192, 85),
    "baboon": (OPENCV, "baboon.jpg", 128, 128),
    "fruits": (OPENCV, "fruits.jpg", 128, 112),
    "building": (OPENCV, "building.jpg", 306, 172),
    "home": (OPENCV, "home.jpg", 128, 64),
}
PACKAGES = {
    SKIMAGE: "`apt-get download python3-skimage`, `dpkg -x` it, name the root",
    OPENCV: "`apt-get download opencv-doc`, `dpkg -x` it, name the root",
    SKLEARN: "`pip install scikit-learn`",
}
FIXTURE = Path(__file__).parent / "fixtures/astronaut.png"


def photo12(root: Path) -> Iterator[tuple[str, Tensor]]:
    """(name, picture) of the twelve crops in the order of `CROPS`: (3, 256, 256), data space, [0, 1].

    Args:
        root: where the Debian packages are unpacked; scikit-learn is found where Python finds it.

    Raises:
        FileNotFoundError: with the package that is missing and how to get it, before anything is yielded.
    """
    paths = {name: _folder(root, folder) / file for name, (folder, file, _, _) in CROPS.items()}
    for name, path in paths.items():
        if not path.exists():
            raise FileNotFoundError(f"{path} of photo12 is not there: {PACKAGES[CROPS[name][0]]}.")
    for name, path in paths.items():
        left, top = CROPS[name][2:]
        yield name, read_picture(path, (left, top, left + SIDE, top + SIDE))


def fixture() -> Tensor:
    """The photograph that comes with the library, (3, 256, 256), data space, [0, 1]: Eileen Collins, NASA.

    Cut from scikit-image's astronaut at (96, 0), so higher than the crop of photo12, to show the face.
    """
    return read_picture(FIXTURE)


def read_picture(path: Path, box: tuple[int, int, int, int] | None = None) -> Tensor:
    """An 8-bit picture as RGB, (3, H, W) in [0, 1], cut to `box` = (left, top, right, bottom)."""
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB").crop(box))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _folder(root: Path, folder: str) -> Path:
    if folder != SKLEARN:
        return root / folder
    spec = importlib.util.find_spec("sklearn")  # where it is, without importing it
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"china and flower of photo12 are pictures of scikit-learn: {PACKAGES[SKLEARN]}.")
    return Path(spec.origin).parents[1] / folder
