"""What `sfumato restore` says and writes of a result: chi-square, scores, pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.operators import Measurement
    from sfumato.zoo import Result


def judge(m: Measurement, result: Result, clean: Tensor | None, console: Console) -> dict[str, float]:
    """Chi-square of the residual, and scores where the truth is known; warns on a mismatch."""
    from sfumato import metrics
    from sfumato.operators.levels import chi_square

    found: dict[str, float] = {}
    if m.sigma > 0.0:
        known = [m] * len(result.samples)
        if result.found is not None:
            known = [replace(m, operator=m.operator.at(kernel)) for kernel in result.found]
        ratio = sum(float(chi_square(n, x).mean()) for n, x in zip(known, result.samples, strict=True)) / len(known)
        found["chi_square"] = ratio
        if ratio > 1.5 or (ratio < 0.5 and "Direct(steps=1)" not in result.solver):
            side = "larger" if ratio > 1 else "smaller"
            console.warn(
                f"the result differs from the input by {ratio**0.5:.2g} times sigma = {m.sigma:.4g}, 1 is expected: "
                f"the noise is {side} than stated, the operator another, or the solver needs more steps."
            )
    if clean is not None:
        answer = result.mean.clamp(0.0, 1.0)
        found["psnr"] = float(metrics.psnr(answer, clean).mean())
        if clean.ndim == 4 and min(clean.shape[2:]) >= 11:
            found["ssim"] = float(metrics.ssim(answer, clean).mean())
    return found


def write(part: Path, m: Measurement, result: Result, grey: bool) -> dict[str, Any]:
    """Writes the pictures; returns what the manifest says of them."""
    from sfumato.cli import outputs
    from sfumato.operators import Convolution

    if grey:
        result = replace(result, samples=result.samples.mean(2, keepdim=True))
    said: dict[str, Any] = {}
    if result.found is not None and isinstance(m.operator, Convolution):
        result = replace(result, samples=result.samples[m.operator.inside(m.y)])
    said |= pictures(part, m.y, result)
    if result.found is not None and outputs.is_picture(result.found[0]):
        kernel = result.found[:, 0].mean(0)
        outputs.write_picture(part / "kernel.png", kernel / kernel.max())
        said["kernel_found"] = [[round(tap, 6) for tap in row] for row in kernel[0].tolist()]
    return said


def pictures(part: Path, y: Tensor, result: Result) -> dict[str, Any]:
    """Writes the result, its samples, the input where it is a picture, and the spread; returns the white of that."""
    from sfumato.cli import outputs

    outputs.write_picture(part / "restored.png", result.mean[0])
    outputs.write_items(part, result.samples[:, 0], "sample")
    if outputs.is_picture(y):
        outputs.write_picture(part / "input.png", y[0])
    if len(result.samples) < 2:
        return {}
    spread = result.std[0].mean(0, keepdim=True)
    white = max(float(spread.max()), 1e-12)
    outputs.write_picture(part / "spread.png", spread / white)
    return {"spread_white": white}


def sounds(part: Path, result: Result, hertz: int) -> None:
    """Writes the first sample, and where there are several all of them and their mean."""
    from sfumato.cli import outputs
    from sfumato.data.wave import write_wave

    write_wave(part / "restored.wav", result.samples[0, 0], hertz)
    if len(result.samples) > 1:
        write_wave(part / "mean.wav", result.mean[0], hertz)
        outputs.write_sounds(part, result.samples[:, 0], "sample", hertz)
