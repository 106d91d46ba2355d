"""MCG: manifold constrained gradient (Chung et al. 2022, 2206.00941)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import indexed
from sfumato.solvers.dps import pulled
from sfumato.solvers.replacement import Replacement


@dataclass(frozen=True)
class MCG(Replacement):
    """DPS's step, and then the projection: what was seen is replaced by y at the new level.

    x' = ancestral(x_t) - zeta grad_{x_t} |y - A D(x_t)|,   x_s = (I - A^+ A) x' + A^+ A r,  r ~ q(x_s | A^+ y).

    So the gradient acts in the null space alone. For noiseless y: the noise of a noisy one is imposed on the result.
    The norm is per sample, and r is at the new level; the public code takes a norm over the batch and the level before
    the step. The weight W of the paper is the identity here; another is a measurement of its own, y' = W y through
    A' = W A: for tomography W is `Radon.fbp` (docs/medical.md).

    Args:
        steps: network evaluations; the table's own steps, or uniform in t.
        zeta: strength of the gradient of the norm, 1 in the public code of inpainting; 0 is the projection alone.

    Source: Chung et al. 2022 (2206.00941): step and defaults of its public code of inpainting.
    """

    steps: int = 1000
    zeta: float = 1.0
    differentiates = True

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def propose(self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, noise: Noise) -> Tensor:
        return pulled(denoiser, m, xt, t, s, noise, self.zeta)


Recipe = MCG
