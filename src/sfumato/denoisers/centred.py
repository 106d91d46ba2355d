"""A network on what x_t differs from its anchor by, as a denoiser of an anchored process."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sfumato.denoisers.preconditioned import Preconditioned
from sfumato.estimate import Estimate
from sfumato.processes import Anchored, Time, exact, expand


class Centred(Preconditioned):
    """D = m + c_skip z + c_out F(c_in z, c_noise, cond), z = x_t - m, m the anchor.

    z follows the plain process on the residual x_0 - m, so that a scheme means on residuals what it means on data:
    with `predict_eps` F is the noise of x_t. `Preconditioned` on the same process shows its network x_t - (1 - alpha) m
    in the place of z.
    """

    process: Anchored

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process, t = self.process.bind(cond), exact(t)
        anchor = process._anchor(xt)
        c = self.scheme(process.alpha(t), process.sigma(t))
        c_noise = self.clock(t) if self.clock else c.c_noise
        z = xt - anchor
        centred = self._estimate(z, c, self._run(z * expand(c.c_in, z), c_noise, cond))
        return Estimate(centred.mean + anchor)
