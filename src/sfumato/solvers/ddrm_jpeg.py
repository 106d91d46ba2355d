"""DDRM-JPEG: JPEG artifact correction using denoising diffusion restoration models (Kawar et al. 2022, 2209.11888)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement, Operator
from sfumato.processes import Gaussian, Table, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, share

EXAMPLE = "sfumato restore picture.jpg --operator jpeg --samples 8 -o out"


@dataclass(frozen=True)
class DDRMJPEG(Solver):
    """DDRM in image space for an encoder A and its decoder A^+, which need not be linear or have a derivative.

        x_t0 = alpha A^+ y + shift + sigma z,
        c    = D - A^+ A D + A^+ y,
        x_s  = alpha_s (D + eta_b (c - D)) + shift_s + sigma_s (eta z + (1 - eta) eps_hat),

    which starts as SDEdit does, at t0 from the decoded picture. For noiseless y through `JPEG`, or any operator with a
    `pinv`: quantisation, clipping, linear ones. c agrees with y where A^+ is linear; a decoder's rounding is met up to
    (1 - eta_b) of what D differs from it, so with eta_b = 0.4 the result follows y without equalling it. Averages of
    several samples have less error than one, 8 in the paper.

    The weights eta and 1 - eta of the noise do not square to 1: between 0 and 1 the state is less noisy than its level;
    `keep_level` takes sqrt(1 - eta^2) instead (ours). At the default, eta = 1, they are the same.

    Times are the paper's, 0, 15, ..., 285 of a table of 1000; on a process that is no table the times with the same
    sigma / alpha (ours). An average over samples of `Model.restore` is its `mean`.

    Args:
        steps: network evaluations.
        eta: share of fresh noise.
        eta_b: weight of y against D.
        t0: where the run starts, in parts of the table.
        keep_level: see above.

    Source: Kawar et al. 2022 (2209.11888): update, order of steps and defaults of its public code.
    """

    steps: int = 20
    eta: float = 1.0
    eta_b: float = 0.4
    t0: float = 0.3
    keep_level: bool = False
    warm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        share(self, "eta", "eta_b", "t0")
        if self.steps < 1:
            raise ValueError(f"DDRMJPEG: at least 1 step is needed, got {self.steps}.")

    def times(self, process: Gaussian) -> Times:
        table = process if isinstance(process, Table) else Table.linear()
        skip = int(self.t0 * table.steps) // self.steps
        if skip < 1:
            raise ValueError(f"{self.steps} steps do not fit below t0 = {self.t0} of {table.steps} levels: raise t0.")
        grid = [(1 + skip * i) / table.steps for i in reversed(range(self.steps))]
        if table is not process:
            grid = [process.time_of(table.log_snr(t)) for t in grid]
        return (*grid, 0.0)

    def check(self, operator: Operator) -> None:
        if not hasattr(operator, "pinv"):
            raise TypeError(
                f"DDRMJPEG needs an operator with a decoder, `pinv`, got {type(operator).__name__}. Use DPS."
            )

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        process = denoiser.process
        assert isinstance(process, Gaussian)
        return process.marginal(self.init(denoiser, m, m.y).to(self.like(denoiser, m)), t).sample(noise)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Tensor:
        decoded: Tensor = m.operator.pinv(m.y)  # type: ignore[attr-defined]
        return decoded

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian)
        D = denoiser(xt, t).mean
        law = process.marginal(D + self.eta_b * (memory - operator.pinv(operator(D))), s)  # type: ignore[attr-defined]
        kept = math.sqrt(1.0 - self.eta**2) if self.keep_level else 1.0 - self.eta
        mean = law.mean + kept * law.std * process.eps(xt, D, t) if kept > 0.0 else law.mean
        return replace(law, mean=mean, std=self.eta * law.std).sample(noise), memory


Recipe = DDRMJPEG
