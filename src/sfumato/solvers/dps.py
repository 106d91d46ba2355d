"""DPS: diffusion posterior sampling for general noisy inverse problems (Chung et al. 2023, 2209.14687)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.operators.levels import count
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed


@dataclass(frozen=True)
class DPS(Solver):
    """x_s = ancestral(x_t) - zeta grad_{x_t} |y - A D(x_t)|, for any differentiable operator.

    The norm is taken per sample: the public code takes one over the whole batch. Its ancestral step has the small
    variance (the paper's network learns one). No clipping: wrap the denoiser in `Clipped` for the public code's.
    Biased by design: the step ignores sigma_y, so the spread along A is far too small at moderate zeta and explodes at
    large ones. Each step costs one call and one backward pass.

    With another likelihood than the Gaussian the square of each residual is weighted by 1 / Var[y | c] at c = y, as the
    paper does for Poisson noise (1 / (2 y)), the weights scaled to a mean of 1 in each row (ours), so that zeta keeps
    its meaning.

    Args:
        steps: network evaluations; the table's own steps, or uniform in t.
        zeta: the public code's `scale` on data in [-1, 1]: 0.3 for super-resolution and deblurring, 0.5 for inpainting,
            1 for phase retrieval.

    Source: Chung et al. 2023 (2209.14687) algorithm 1, with the gradient of the norm (not of its square over the norm,
    which is twice as much) and the scales of its public code.
    """

    steps: int = 1000
    zeta: float = 0.3
    climbs = True
    differentiates = True

    @classmethod
    def inpainting(cls) -> DPS:
        """The scale of the public configuration for inpainting."""
        return cls(zeta=0.5)

    @classmethod
    def phase_retrieval(cls) -> DPS:
        """The scale of the public configuration for phase retrieval."""
        return cls(zeta=1.0)

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        return pulled(denoiser, m, xt, t, s, noise, self.zeta), memory


def pulled(
    denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, noise: Noise, zeta: float, eta: float = 1.0
) -> Tensor:
    """The step of `DPS`, x_s - zeta grad_{x_t} |y - A D(x_t)|, (B, *event); x_s ancestral, or of another eta."""
    with torch.enable_grad():
        xt = xt.detach().requires_grad_()
        D = denoiser(xt, t).mean
        norms = _weighted(m, m.residual(D)).reshape(len(m), -1).norm(dim=1)
        (g,) = torch.autograd.grad(norms.sum(), xt)
    xs = denoiser.process.reverse(Estimate(D.detach()), xt.detach(), t, s, eta).sample(noise)  # type: ignore[call-arg]
    return torch.sub(xs, g, alpha=zeta)


def _weighted(m: Measurement, r: Tensor) -> Tensor:
    """Residuals r in parts of their standard deviation, as far as y tells it, to a mean weight of 1 over what was seen.
    Gaussian noise is the same everywhere: r itself."""
    if m.likelihood is None:
        return r
    weight = m.seen / m.likelihood.variance(m.y)
    mean = weight.flatten(1).sum(1) / count(m).clamp(min=1)
    return r * (weight / mean.reshape(-1, *[1] * (r.ndim - 1))).sqrt()


Recipe = DPS
