"""What `sfumato restore` says of its result: whether it fits what was measured, and how near the truth it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.cli.console import Console
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
