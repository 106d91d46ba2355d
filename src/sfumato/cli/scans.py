"""Scans in `sfumato restore`: NIfTI and DICOM, restored slice by slice with one noise, written in their own format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.cli.console import Console
    from sfumato.cli.restore_options import Settings
    from sfumato.data.medical import Scan
    from sfumato.operators import Measurement
    from sfumato.zoo import Result

NOTE = "restored by sfumato with a generative model; not for diagnosis"
KINDS = ("denoise", "inpaint", "deblur", "enlarge", "mri", "ct")


def is_scan(path: Path) -> bool:
    """Whether this is a NIfTI or DICOM file, or a folder that holds DICOM files."""
    from sfumato.data import medical

    return medical.is_scan(path)


def model(path: Path, operator: str, console: Console) -> str:
    """The shipped model for what was not named, and a line that says why, where it is not `photo`."""
    from sfumato.cli import inputs

    if is_scan(path):
        console.note("model: head, since this is a scan; it knows a few heads (docs/medical.md: what it is not for).")
        return "head"
    if operator not in ("mri", "ct") or path.is_dir() or not path.exists():
        return "photo"
    if path.suffix.lower() != ".npz" and len(inputs.read(path)) != 1:
        console.note(f"model: photo, since the picture is in color; --operator {operator} of a grey one takes head.")
        return "photo"
    console.note(f"model: head, since --operator {operator} is for slices of scans; --model photo for other pictures.")
    return "head"


def opened(wanted: Settings) -> Scan:
    """The scan.

    Raises:
        typer.BadParameter: for an operator that does not serve scans.
        ValueError: for a scan that cannot be read.
    """
    from sfumato.data import medical

    if wanted.operator not in KINDS or (wanted.operator == "enlarge" and not wanted.simulate):
        serve = ", ".join(kind for kind in KINDS if kind != "enlarge")
        raise typer.BadParameter(f"--operator {wanted.operator} does not serve scans: {serve} do (enlarge: simulated).")
    return medical.read(wanted.path("file"))


def measured(wanted: Settings, console: Console) -> Measurement:
    """What a scanner measured, for a picture in [0, 1] (`data.raw`)."""
    import torch

    from sfumato.data import raw

    found = raw.read(wanted.path("file"), wanted.operator, wanted.sigma)
    console.note(f"white is {found.white:g}, the largest number of a first reconstruction; {found.words}.")
    console.note("The result is no basis for a diagnosis: it shows what is plausible, not what is there.")
    y = found.measurement.y.to(device=wanted.device, dtype=getattr(torch, wanted.dtype))
    return replace(found.measurement, y=y)


def measure(scan: Scan, wanted: Settings, console: Console) -> tuple[Measurement, Tensor | None, bool]:
    """The measurement with a row for each slice, in [0, 1], the clean slices where they are known, and False.

    All slices share the mask; the noise of a simulated measurement is each slice's own, as a scanner's.
    """
    import torch

    from sfumato.cli.building import build
    from sfumato.cli.restore import observed
    from sfumato.noise import Seeds
    from sfumato.operators import Measurement

    low, high = scan.range
    x = ((scan.slices - low) / (high - low)).clamp(0, 1).unsqueeze(1)
    x = x.to(device=wanted.device, dtype=getattr(torch, wanted.dtype))
    console.note(
        f"{len(x)} slices of {x.shape[-2]} x {x.shape[-1]}, black is {low:g} and white {high:g}; --sigma counts from "
        "0 to 1 between them. The result is no basis for a diagnosis: it shows what is plausible, not what is there."
    )
    operator = build(wanted, x[0])
    if wanted.simulate:
        noise = Seeds.keyed(wanted.seed, [("measurement", i) for i in range(len(x))])
        return Measurement.simulate(operator, x, sigma=wanted.sigma or 0.0, noise=noise), x, False
    return observed(operator, x, wanted.sigma, console), None, False


def write(part: Path, scan: Scan, result: Result) -> dict[str, Any]:
    """Writes the scans and a picture of the middle slice; returns what the manifest says of them.

    The spread is in the unit of the scan, rounded as its format demands.
    """
    import torch

    from sfumato.cli import outputs
    from sfumato.data import medical

    low, high = scan.range
    suffix = scan.origin.suffix

    def keep(x: Tensor, name: str, shift: float = low) -> None:
        values = (x[:, 0].double().cpu() * (high - low) + shift).movedim(0, scan.axis)
        medical.write(scan, values, part / f"{name}{suffix}", note=f"{NOTE} ({name})")

    mean, middle = result.mean, len(result.mean) // 2
    keep(mean, "restored")
    views = [((scan.slices[middle] - low) / (high - low)).unsqueeze(0).to(mean), mean[middle]]
    for i, sample in enumerate(result.samples):
        if len(result.samples) > 1:
            keep(sample, f"sample-{i:03d}")
    if len(result.samples) > 1:
        keep(result.std, "spread", 0.0)
        views.append(result.std[middle] / result.std.max().clamp(min=1e-12))
    outputs.write_picture(part / "middle.png", torch.cat(views, 2))
    return {
        "range": [low, high],
        "middle.png": f"slice {middle + 1}: the input, the result" + ", the spread" * (len(views) > 2),
    }
