"""Prediction of what an anchor lacks: a denoiser of the residual, as a denoiser of x_0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers.base import Denoiser, _twin
from sfumato.estimate import Estimate
from sfumato.processes import Anchored, Time


class Residual(Denoiser):
    """D = m(y) + scale D_z(z_t, t, cond), z_t = (x_t - m(y)) / scale: D_z denoises z_0 = (x_0 - m(y)) / scale.

    Samplers and objectives that run on the anchored process of x do to z what they would do on the plain one.

    Args:
        inner: a denoiser of z, on the schedule inside `process`; it is given the condition as well.
        process: of x: x_t = alpha x_0 + (1 - alpha) m + scale sigma eps, with one number as its scale. Near the
            standard deviation of the residual it gives z a variance near 1.
        reach: z_0 is held to [-reach, reach]; None: not held.

    Source: Li et al. 2022 (2104.14951) algorithms 1 and 2; Whang et al. 2022 (2112.02475).
    """

    process: Anchored

    def __init__(self, inner: Denoiser, process: Anchored, *, reach: float | None = None) -> None:
        super().__init__()
        self.inner, self.process, self.reach = inner, process, reach

    def held(self, reach: float = 1.0) -> Residual:
        """The same, with z_0 held to [-reach, reach]."""
        twin = _twin(self)
        twin.reach = reach
        return twin

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process.bind(cond)
        m, scale = process._anchor(xt), float(process.scale)
        z, var, aux = self.inner((xt - m) / scale, t, cond)
        if self.reach is not None:
            z = z.clamp(-self.reach, self.reach)
        return Estimate(torch.add(m, z, alpha=scale), None if var is None else var * scale**2, aux)
