"""TMPD: Tweedie moment projected diffusions (Boys et al. 2023, 2310.06721)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.operators import Linear, Measurement
from sfumato.processes import Time
from sfumato.solvers.base import Guided
from sfumato.solvers.tweedie import Covariance, Pulled


@dataclass(frozen=True)
class TMPD(Guided):
    """E[x_0 | x_t, y] with the covariance of A x_0 given x_t replaced by a diagonal of its row sums.

    D_y = D + C A^T diag(v + sigma_y^2)^{-1} (y - A D),   v = A C A^T 1,   C = Cov[x_0 | x_t] by backward passes.

    Exact on Gaussian data where the row sums act as the matrix does: a diagonal A C A^T, or constant vectors as its
    eigenvectors. Elsewhere biased; row sums may be negative and are held above `floor` (nearly noiseless runs can
    diverge there). One call and two backward passes per step. Times are uniform in log SNR, the sampler is DDIM (ours).

    Args:
        steps, sampler: see `Guided`.
        floor: least row sum.

    Source: Boys et al. 2023 (2310.06721) section 3. Its public code starts from A 1 in place of 1, the same for
    masks, averages and normalised blur.
    """

    floor: float = 1e-6
    needs = Linear
    differentiates = True

    def __post_init__(self) -> None:
        if not self.floor > 0.0:
            raise ValueError(f"TMPD: floor is a variance, above 0, got {self.floor}.")

    def guide(self, denoiser: Denoiser, m: Measurement) -> RowSummed:
        return RowSummed(denoiser, m, self.floor)


class RowSummed(Pulled):
    """The denoiser of x_0 given x_t and y of `TMPD`."""

    passes = 2

    def __init__(self, inner: Denoiser, m: Measurement, floor: float) -> None:
        super().__init__(inner, m)
        self.floor = floor

    def pull(self, operator: Linear, D: Tensor, covariance: Covariance, t: Time) -> Tensor:
        ones = torch.ones_like(self.m.y)
        sums = operator(covariance(operator.adjoint(ones))).real.clamp(min=self.floor)
        return operator.adjoint(self.m.residual(D) / (sums + self.m.sigma**2))
