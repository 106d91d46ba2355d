"""MMPS: moment matching posterior sampling (Rozet et al. 2024, 2405.13712)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.operators import Linear, Measurement
from sfumato.operators.base import krylov
from sfumato.processes import Time
from sfumato.solvers.base import Guided
from sfumato.solvers.tweedie import Covariance, Pulled


@dataclass(frozen=True)
class MMPS(Guided):
    """E[x_0 | x_t, y] with p(x_0 | x_t) taken as N(D, C), its covariance from the Jacobian of the denoiser.

    D_y = D + C A^T (sigma_y^2 + A C A^T)^{-1} (y - A D),   C = Cov[x_0 | x_t] = sigma_t^2 / alpha_t dD/dx_t.

    Exact on Gaussian data, with enough iterations, for any A and sigma_y. On data of several modes the Gaussian is too
    wide, and the weights of the modes come out wrong. Times are uniform in log SNR, the sampler is DDIM (the paper
    names no grid that suits every process).

    Args:
        steps, sampler: see `Guided`.
        iterations: Krylov iterations for the inverse, each one product with C (one backward pass through the network),
            and none at the end: C A^T of the solution is the sum of those of the directions. Conjugate gradients with
            inner products per sample, and a stop on negative curvature, where the paper uses GMRES (ours): a network's
            Jacobian is neither symmetric nor positive.

    Source: Rozet et al. 2024 (2405.13712) section 4; 1 and 5 iterations in its public benchmark.
    """

    iterations: int = 5
    needs = Linear
    differentiates = True

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"MMPS: iterations is at least 1, got {self.iterations}.")

    def guide(self, denoiser: Denoiser, m: Measurement) -> MomentMatched:
        return MomentMatched(denoiser, m, self.iterations)


class MomentMatched(Pulled):
    """The denoiser of x_0 given x_t and y of `MMPS`."""

    def __init__(self, inner: Denoiser, m: Measurement, iterations: int) -> None:
        super().__init__(inner, m)
        self.passes = iterations

    def correction(self, operator: Linear, D: Tensor, covariance: Covariance, t: Time) -> Tensor:
        def apply(u: Tensor) -> tuple[Tensor, Tensor]:
            carried = covariance(operator.adjoint(u))
            return operator(carried) + self.m.sigma**2 * u, carried

        r = self.m.residual(D)
        return krylov(apply, r, r, 0.0, steps=self.passes)
