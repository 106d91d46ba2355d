"""A network with two heads: the mean of x_0, and where the variance of a reverse step lies between its two bounds."""

from __future__ import annotations

from torch import Tensor

from sfumato.denoisers.preconditioned import Preconditioned, Scheme
from sfumato.estimate import Estimate


class LearnedVariance(Preconditioned):
    """A preconditioned network with twice the channels: D from the first half, v = (second half + 1) / 2 in `aux`.

    v = 1 is the variance beta, v = 0 is btilde, and nothing is clamped: `processes.variances.learned` turns it into the
    law of a step. Source: Nichol & Dhariwal 2021 (2102.09672) eq. 15 and public code.

    Raises:
        ValueError: in a call, if the network does not return twice the channels of its input.
    """

    def _estimate(self, u: Tensor, c: Scheme, out: Tensor) -> Estimate:
        if out.shape[1] != 2 * u.shape[1]:
            raise ValueError(f"LearnedVariance needs a net of {2 * u.shape[1]} output channels, got {out.shape[1]}.")
        head, second = out.chunk(2, 1)
        return super()._estimate(u, c, head)._replace(aux={"v": 0.5 * (second + 1.0)})
