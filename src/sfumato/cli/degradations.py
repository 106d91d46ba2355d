"""The degradations of `sfumato restore`, as operators: which options each needs, and how each is built."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.cli.console import Console
    from sfumato.cli.restore import Settings
    from sfumato.operators import Measurement, Operator


class Kind(StrEnum):
    """What has happened to the picture."""

    denoise = "denoise"
    inpaint = "inpaint"
    deblur = "deblur"
    blind_deblur = "blind-deblur"
    enlarge = "enlarge"
    colorize = "colorize"
    jpeg = "jpeg"
    mri = "mri"
    ct = "ct"
    quantize = "quantize"
    clip = "clip"
    camera_blur = "camera-blur"
    phase = "phase"


OPTIONS = {
    "inpaint": ("mask",),
    "deblur": ("kernel", "std", "border"),
    "blind-deblur": ("width", "border"),
    "enlarge": ("factor", "filter"),
    "quantize": ("bits",),
    "clip": ("exposure",),
    "camera-blur": ("kernel", "std", "border", "exposure"),
    "phase": ("margin",),
}
EXACT = ("jpeg", "quantize")  # rounding is all the noise there is
WIDTH = 15  # taps of a kernel that is to be found
BORDERS = ("circular", "reflect", "zero", "valid")

# what can be simulated: the option, what it is without it (0: it must be given), the least it may be
SIMULATED = {"jpeg": ("quality", 0, 1), "mri": ("acceleration", 4.0, 1.0), "ct": ("views", 60, 1)}


def check(wanted: Settings) -> None:
    """Refuses options that are missing, or that belong to another operator.

    Raises:
        typer.BadParameter: naming the option.
    """
    own = OPTIONS.get(wanted.operator, ())
    for name in ("mask", "kernel", "std", "width", "border", "factor", "filter", "bits", "exposure", "margin"):
        if getattr(wanted, name) and name not in own:
            raise typer.BadParameter(f"--{name} does not belong to --operator {wanted.operator}.")
    if wanted.operator == "inpaint" and not wanted.mask:
        raise typer.BadParameter("--operator inpaint needs --mask FILE: white where the picture was seen, black else.")
    if wanted.operator in ("deblur", "camera-blur") and bool(wanted.kernel) == bool(wanted.std):
        raise typer.BadParameter(
            f"--operator {wanted.operator} needs --kernel FILE or --std PIXELS (a Gaussian), one of them."
        )
    if wanted.operator == "blind-deblur" and wanted.simulate:
        raise typer.BadParameter("--operator blind-deblur has no --simulate: blur a picture with a kernel of your own.")
    if wanted.operator == "blind-deblur" and wanted.border in ("reflect", "zero"):
        raise typer.BadParameter("--operator blind-deblur has the borders valid and circular.")
    if wanted.border not in ("", *BORDERS):
        raise typer.BadParameter(f"--border is {', '.join(BORDERS)}, got {wanted.border!r}.")
    if wanted.operator == "enlarge" and wanted.factor < 2:
        raise typer.BadParameter("--operator enlarge needs --factor, at least 2.")
    if wanted.filter not in ("", "box", "bicubic"):
        raise typer.BadParameter(f"--filter is box or bicubic, got {wanted.filter!r}.")
    _check_range(wanted)
    _check_simulated(wanted)


def _check_range(wanted: Settings) -> None:
    if wanted.operator == "quantize" and (not wanted.bits or wanted.sigma):
        raise typer.BadParameter("--operator quantize needs --bits, 1 to 8, and has no --sigma.")
    if wanted.operator == "clip" and not wanted.exposure > 1.0:
        raise typer.BadParameter("--operator clip needs --exposure, above 1: how many times too bright the picture is.")
    if wanted.operator == "phase" and wanted.sigma is None:
        raise typer.BadParameter("--operator phase needs --sigma: noise of spectra is not estimated (0 for none).")
    if wanted.operator == "phase" and not wanted.simulate and not wanted.file.endswith((".npy", ".npz")):
        raise typer.BadParameter(
            "--operator phase works on pictures with --simulate, and on the sizes of a spectrum, zero frequency in the "
            "middle, in a NumPy file (H, W) or (C, H, W): H and W of the picture and twice the margin."
        )


def _check_simulated(wanted: Settings) -> None:
    for kind, (name, usual, least) in SIMULATED.items():
        value = getattr(wanted, name)
        if value and (wanted.operator != kind or not wanted.simulate):
            raise typer.BadParameter(f"--{name} belongs to --operator {kind} --simulate.")
        if wanted.operator == kind and wanted.simulate and (value or usual) < least:
            raise typer.BadParameter(f"--operator {kind} --simulate needs --{name}, at least {least}.")
    if wanted.operator in ("mri", "ct") and not wanted.simulate and not wanted.file.endswith(".npz"):
        raise typer.BadParameter(
            f"--operator {wanted.operator} works on pictures and scans with --simulate, and on measured data in a .npz "
            "file (docs/medical.md): kspace, or sinogram, angles and size."
        )
    if wanted.operator == "jpeg" and (wanted.sigma or wanted.quality > 100):
        raise typer.BadParameter("--operator jpeg has no --sigma, and --quality goes up to 100.")


def stored(wanted: Settings, event: tuple[int | None, ...], console: Console) -> Measurement:
    """What a JPEG file holds, with its own tables and sampling, for a model of this event."""
    from dataclasses import replace

    import torch

    from sfumato.data.jpeg import read_jpeg, turned

    m = read_jpeg(wanted.path("file"), channels=event[0])
    if turned(wanted.path("file")):
        console.warn("the file says that viewers turn it: the result lies as it is stored.")
    return replace(m, y=m.y.to(device=wanted.device, dtype=getattr(torch, wanted.dtype)))


def build(wanted: Settings, x: Tensor) -> Operator:
    """The operator for an input x (C, H, W): the degraded picture, or the clean one with --simulate.

    Raises:
        ValueError: if the mask has another size, the kernel is no kernel, or a margin leaves no picture.
    """
    from sfumato import operators
    from sfumato.cli import inputs
    from sfumato.solvers import GibbsDDRM

    height, width = x.shape[-2:]
    if wanted.operator == "denoise":
        return operators.Identity()
    if wanted.operator == "inpaint":
        mask = inputs.read(wanted.path("mask")).mean(0)
        if mask.shape != x.shape[-2:]:
            raise ValueError(
                f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels, the picture {width} x {height}: take one size."
            )
        return operators.Mask((mask >= 0.5).float())
    if wanted.operator == "colorize":
        return operators.Gray.luma()
    if wanted.operator in SIMULATED:
        return _simulated(wanted, (height, width))
    if wanted.operator == "blind-deblur":
        first = GibbsDDRM.kernel(wanted.width or WIDTH)
        if wanted.border == "circular":
            return operators.Blur(first, (height, width))
        return operators.Convolution(first, "valid")
    if wanted.operator == "quantize":
        return operators.Quantize(wanted.bits, low=0.0, high=1.0)
    if wanted.operator == "clip":
        return operators.Clip(wanted.exposure, low=0.0, high=1.0)
    if wanted.operator == "phase":
        if not wanted.simulate and min(height, width) <= 2 * wanted.margin:
            raise ValueError(f"a spectrum of {width} x {height} leaves no picture inside a margin of {wanted.margin}.")
        return operators.PhaseRetrieval(wanted.margin)
    if wanted.operator == "camera-blur":
        return operators.CameraBlur(_blur(wanted, (height, width)), wanted.exposure or 1.0)
    if wanted.operator == "deblur":
        return _blur(wanted, (height, width))
    if wanted.filter == "bicubic":
        r = 1 if wanted.simulate else wanted.factor
        return operators.Downsample.bicubic(wanted.factor, (height * r, width * r))
    return operators.Downsample(wanted.factor)


def _blur(wanted: Settings, size: tuple[int, int]) -> Operator:
    from sfumato import operators
    from sfumato.cli import inputs

    borders: Any = wanted.border or "circular"
    if wanted.std:
        if borders == "circular":
            return operators.Blur.gaussian(size, wanted.std)
        taps = min(61, 2 * int(4 * wanted.std + 0.5) + 1)
        return operators.Convolution.gaussian(wanted.std, width=taps, padding=borders)
    kernel = inputs.read(wanted.path("kernel")).mean(0)
    if not float(kernel.sum()) > 0.0:
        raise ValueError(f"the kernel {wanted.kernel} is black: it needs a positive sum.")
    kernel = kernel / kernel.sum()
    if borders == "circular":
        return operators.Blur(kernel, size)
    return operators.Convolution(kernel, borders)


def _simulated(wanted: Settings, size: tuple[int, int]) -> Operator:
    from sfumato import operators
    from sfumato.noise import Seeds
    from sfumato.operators import kspace

    if wanted.operator == "jpeg":
        return operators.JPEG.quality(size, wanted.quality, low=0.0, high=1.0)
    if wanted.operator == "ct":
        return operators.Radon.parallel(size, wanted.views or int(SIMULATED["ct"][1]))
    acceleration = wanted.acceleration or SIMULATED["mri"][1]
    noise = Seeds.keyed(wanted.seed, ["columns"]).streams[0]
    # fastMRI's centres, 0.08 of the columns at 4 and 0.04 at 8
    return operators.Fourier(kspace.columns(size, noise, acceleration=acceleration, centre=0.32 / acceleration))
