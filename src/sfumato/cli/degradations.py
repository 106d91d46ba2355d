"""The degradations of `sfumato restore`, as operators: which options each needs, and how each is built."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.cli.restore import Settings
    from sfumato.operators import Operator


class Kind(StrEnum):
    """What has happened to the picture."""

    denoise = "denoise"
    inpaint = "inpaint"
    deblur = "deblur"
    enlarge = "enlarge"
    colorize = "colorize"


OPTIONS = {"inpaint": ("mask",), "deblur": ("kernel", "std", "border"), "enlarge": ("factor", "filter")}
BORDERS = ("circular", "reflect", "zero", "valid")


def check(wanted: Settings) -> None:
    """Refuses options that are missing, or that belong to another operator.

    Raises:
        typer.BadParameter: naming the option.
    """
    own = OPTIONS.get(wanted.operator, ())
    for name in ("mask", "kernel", "std", "border", "factor", "filter"):
        if getattr(wanted, name) and name not in own:
            raise typer.BadParameter(f"--{name} does not belong to --operator {wanted.operator}.")
    if wanted.operator == "inpaint" and not wanted.mask:
        raise typer.BadParameter("--operator inpaint needs --mask FILE: white where the picture was seen, black else.")
    if wanted.operator == "deblur" and bool(wanted.kernel) == bool(wanted.std):
        raise typer.BadParameter("--operator deblur needs --kernel FILE or --std PIXELS (a Gaussian), one of them.")
    if wanted.border not in ("", *BORDERS):
        raise typer.BadParameter(f"--border is {', '.join(BORDERS)}, got {wanted.border!r}.")
    if wanted.operator == "enlarge" and wanted.factor < 2:
        raise typer.BadParameter("--operator enlarge needs --factor, at least 2.")
    if wanted.filter not in ("", "box", "bicubic"):
        raise typer.BadParameter(f"--filter is box or bicubic, got {wanted.filter!r}.")


def build(wanted: Settings, x: Tensor) -> Operator:
    """The operator for an input x (C, H, W): the degraded picture, or the clean one with --simulate.

    Raises:
        ValueError: if the mask has another size, or the kernel is no kernel.
    """
    from sfumato import operators
    from sfumato.cli import inputs

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
    if wanted.operator == "deblur":
        borders: Any = wanted.border or "circular"
        if wanted.std:
            if borders == "circular":
                return operators.Blur.gaussian((height, width), wanted.std)
            taps = min(61, 2 * int(4 * wanted.std + 0.5) + 1)
            return operators.Convolution.gaussian(wanted.std, width=taps, padding=borders)
        kernel = inputs.read(wanted.path("kernel")).mean(0)
        if not float(kernel.sum()) > 0.0:
            raise ValueError(f"the kernel {wanted.kernel} is black: it needs a positive sum.")
        kernel = kernel / kernel.sum()
        if borders == "circular":
            return operators.Blur(kernel, (height, width))
        return operators.Convolution(kernel, borders)
    if wanted.filter == "bicubic":
        r = 1 if wanted.simulate else wanted.factor
        return operators.Downsample.bicubic(wanted.factor, (height * r, width * r))
    return operators.Downsample(wanted.factor)
