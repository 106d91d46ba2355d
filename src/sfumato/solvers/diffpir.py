"""DiffPIR: denoising diffusion models for plug-and-play image restoration (Zhu et al. 2023, 2305.08995)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Table, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed, share
from sfumato.solvers.ratio import fixed_ratio


@dataclass(frozen=True)
class DiffPIR(Solver):
    """Half-quadratic splitting: the denoiser, a proximal step towards y, and noise again.

    D_y = argmin_x |y - A x|^2 + rho |x - D|^2 = D + A^T (A A^T + rho)^{-1} (y - A D),
    x_s = alpha_s D_y + sigma_s (sqrt(1 - zeta) eps_hat + sqrt(zeta) z),

    with rho = lambda (sigma_y alpha_t / sigma_t)^2 and eps_hat recomputed from D_y.

    The step that ends at t = 0 leaves the data out, as in the public code. Biased by design: lambda_ and zeta move the
    spread along A from 0.4 to over 5 times the posterior's. A time is shared by the batch.

    Args:
        steps: network evaluations.
        lambda_: weight of the prior; 6 to 12 in the paper's table, 1 in the public configurations.
        zeta: share of fresh noise in the variance; 0.1 is the public configuration of deblurring.
        floor: sigma_y counts as at least this, in model space.
        spacing: "linspace": equal steps, both ends visited; "quad": dense near clean, t_i = 1 - sqrt(i / (steps - 1)).

    Source: Zhu et al. 2023 (2305.08995) algorithm 1; the defaults and the quadratic spacing of its public code.
    """

    steps: int = 100
    lambda_: float = 1.0
    zeta: float = 0.1
    floor: float = 0.001
    spacing: str = "linspace"
    needs = Linear

    def __post_init__(self) -> None:
        share(self, "zeta")
        if self.spacing not in ("linspace", "quad"):
            raise ValueError(f"DiffPIR: spacing is linspace or quad, got {self.spacing!r}.")

    @classmethod
    def super_resolution(cls) -> DiffPIR:
        """The public configuration of super-resolution."""
        return cls(zeta=0.25)

    @classmethod
    def inpainting(cls) -> DiffPIR:
        """The public configuration of inpainting: 20 steps, dense near clean, all noise fresh."""
        return cls(steps=20, zeta=1.0, spacing="quad")

    def times(self, process: Gaussian) -> Times:
        if self.spacing == "linspace":
            return indexed(process, self.steps, "linspace")
        n = self.steps
        if isinstance(process, Table):
            N = process.steps
            # The first index of the table is the last step: N - 1 counted from the noisy end, as in the public code.
            down = {min(int(N * math.sqrt(i / max(n - 1, 1))), N - 1) for i in range(n)}
            return (*((N - i) / N for i in sorted(down)), 0.0)
        return tuple(1.0 - math.sqrt(i / n) for i in range(n + 1))

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        D = denoiser(xt, t).mean
        if s > 0.0:
            rho = self.lambda_ * (max(self.floor, m.sigma) * process.alpha(t) / process.sigma(t)) ** 2
            D = D + operator.ridge(m.residual(D), rho)
        return fixed_ratio(process, D, xt, t, s, math.sqrt(self.zeta)).sample(noise), memory


Recipe = DiffPIR
