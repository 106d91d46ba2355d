"""TMPD: Tweedie moment projected diffusions (Boys et al. 2023, 2310.06721)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time, expand
from sfumato.solvers.base import Guided
from sfumato.solvers.tweedie import Covariance, Pulled


@dataclass(frozen=True)
class TMPD(Guided):
    """E[x_0 | x_t, y] with the covariance of A x_0 given x_t replaced by a diagonal of its row sums.

    D_y = D + C A^T diag(v + sigma_y^2)^{-1} (y - A D),   v = A C A^T 1,   C = Cov[x_0 | x_t] by backward passes.

    Exact on Gaussian data where the row sums act as the matrix does: a diagonal A C A^T, or constant vectors as its
    eigenvectors. Elsewhere biased. The row sums of a network may be negative, or nearly 0: the public code leaves them
    so, and adds noise of 0.01 to 0.1 to every y; held at a share of the variance that N(0, I) would have, runs without
    noise are stable too (ours). One call and two backward passes per step. Times are uniform in log SNR, the sampler
    is DDIM (ours).

    Args:
        steps, sampler: see `Guided`.
        floor: least row sum, in parts of r_t^2 = sigma_t^2 / (alpha_t^2 + sigma_t^2) (ours); no exact row sum is below
            it where no direction of the data that A sees has a variance below `floor`.

    Source: Boys et al. 2023 (2310.06721) section 3. Its public code starts from A 1 in place of 1, the same for
    masks, averages and normalised blur.
    """

    floor: float = 0.01
    needs = Linear
    differentiates = True

    def __post_init__(self) -> None:
        if not self.floor > 0.0:
            raise ValueError(f"TMPD: floor is a share of a variance, above 0, got {self.floor}.")

    def guide(self, denoiser: Denoiser, m: Measurement) -> RowSummed:
        return RowSummed(denoiser, m, self.floor)


class RowSummed(Pulled):
    """The denoiser of x_0 given x_t and y of `TMPD`."""

    passes = 2

    def __init__(self, inner: Denoiser, m: Measurement, floor: float) -> None:
        super().__init__(inner, m)
        self.floor = floor

    def correction(self, operator: Linear, D: Tensor, covariance: Covariance, t: Time) -> Tensor:
        assert isinstance(self.process, Gaussian)
        ones, alpha, level = torch.ones_like(self.m.y), self.process.alpha(t), self.process._level(t)
        least = self.floor * expand(level**2 / (alpha**2 + level**2), D)
        sums = operator(covariance(operator.adjoint(ones))).real.clamp(min=least)
        return covariance(operator.adjoint(self.m.residual(D) / (sums + self.m.sigma**2)))


Recipe = TMPD
