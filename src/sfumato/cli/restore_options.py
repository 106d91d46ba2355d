"""The settings of `sfumato restore`, and the options that say what has happened to a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result; files by their absolute paths."""

    file: str
    operator: str
    model: str = "photo"
    mask: str = ""
    kernel: str = ""
    std: float = 0.0
    factor: int = 0
    filter: str = ""
    border: str = ""
    sigma: float | None = None
    solver: str = ""
    samples: int = 1
    steps: int | None = None
    seed: int = 0
    batch: int = 4
    low_memory: bool = False
    fields: dict[str, str] = field(default_factory=dict)
    simulate: bool = False
    device: str = "cpu"
    dtype: str = "float32"
    quality: int = 0
    acceleration: float = 0.0
    views: int = 0
    width: int = 0
    dataset: str = ""
    split: str = "test"
    bits: int = 0
    exposure: float = 0.0
    margin: int = 0
    chroma: str = ""
    sampling: str = ""
    coils: int = 0
    source: float = 0.0
    ratio: float = 0.0
    basis: str = ""
    transmission: str = ""
    airlight: float | None = None
    net: str = ""
    code: str = ""

    def path(self, name: str) -> Path:
        """The path in a field."""
        return Path(getattr(self, name))

    @property
    def share(self) -> float | None:
        """The number that --transmission is; None where it names a file or is not given."""
        try:
            return float(self.transmission)
        except ValueError:
            return None

    @property
    def files(self) -> list[str]:
        """The fields that name files, whose contents decide the result too."""
        names = ("file", "mask", "kernel", "net", "code", "transmission")
        return [
            name for name in names if getattr(self, name) and not (name == "transmission" and self.share is not None)
        ]


Mask = Annotated[str, typer.Option(help="inpaint: a picture, white where seen, black where missing.")]
Kernel = Annotated[
    str,
    typer.Option(
        help="deblur, enlarge, camera-blur: a picture or NumPy file of the kernel; deblur: also a .npz file of kernels "
        "(K, h, w) and their weights (K, H, W) at each pixel."
    ),
]
Std = Annotated[
    float,
    typer.Option(min=0.0, help="deblur, enlarge, camera-blur: standard deviation of a Gaussian kernel, pixels."),
]
Width = Annotated[
    int, typer.Option(min=0, help="blind-deblur: taps along each side of the kernel that is looked for; 15.")
]
Factor = Annotated[int, typer.Option(min=0, help="enlarge: by how much.")]
Filter = Annotated[
    str, typer.Option("--filter", help="enlarge: how it was reduced, box or bicubic; else --kernel or --std.")
]
Border = Annotated[
    str,
    typer.Option(
        help="deblur: what lies beyond it: circular, reflect, zero, or valid: the scene goes on (blind: valid)."
    ),
]
Quality = Annotated[int, typer.Option(min=0, help="jpeg --simulate: of the file, 1 to 100.")]
Chroma = Annotated[
    str, typer.Option(help="jpeg --simulate: sampling of color: 4:4:4, 4:2:2, 4:2:0 (usual), 4:4:0, 4:1:1.")
]
Acceleration = Annotated[
    float, typer.Option(min=0.0, help="mri --simulate: 1 of how many points of k-space; 4 if not given.")
]
Sampling = Annotated[
    str,
    typer.Option(
        help="mri --simulate: which points, random (columns, the usual), equispaced (columns), poisson-disc or radial."
    ),
]
Coils = Annotated[int, typer.Option(min=0, help="mri --simulate: how many coils around a grey picture.")]
Views = Annotated[int, typer.Option(min=0, help="ct --simulate: projections; 60 if not given.")]
Source = Annotated[
    float,
    typer.Option(
        "--source",
        min=0.0,
        help="ct --simulate: a fan from a source so many pixels from the middle, in place of parallel lines.",
    ),
]
Bits = Annotated[int, typer.Option(min=0, max=8, help="quantize: of each number.")]
Exposure = Annotated[
    float, typer.Option(min=0.0, help="clip: how many times too bright; camera-blur: above 1 lights are clipped.")
]
Margin = Annotated[int, typer.Option(min=0, help="phase: zeros on each side before the Fourier transform.")]
Ratio = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="sensing --simulate: share of the numbers that is measured; 0.25 if not given."
    ),
]
Basis = Annotated[
    str,
    typer.Option(
        help="sensing --simulate: block (rotated blocks of 32 x 32, the usual) or hadamard (of the whole picture)."
    ),
]
Transmission = Annotated[
    str,
    typer.Option(
        metavar="NUMBER|FILE", help="haze: share of the light that arrives, 0 to 1, or a picture of it (white: all)."
    ),
]
Airlight = Annotated[
    float | None,
    typer.Option(min=0.0, help="haze: brightness of the haze, 1 if not given; 0: the picture is only too dark."),
]
Net = Annotated[
    str, typer.Option(help="network-blur: a Python file that defines net(x, code), pictures (B, C, H, W) in [0, 1].")
]
Code = Annotated[
    str, typer.Option(help="network-blur: a NumPy file of the blur's code; --simulate draws one if not given.")
]
