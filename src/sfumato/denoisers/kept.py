"""Known pixels kept: the estimate is drawn in the holes of a mask alone (Saharia et al. 2022, 2111.05826)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers.base import Wrapper
from sfumato.estimate import Estimate
from sfumato.processes import Time


class Kept(Wrapper):
    """D in the holes, y elsewhere: where cond["mask"] > 0 is a hole, cond["image"] is known everywhere else.

    `inner` sees x_t in the holes and the clean known pixels around them, whatever x_t holds there: in training and in
    drawing alike. No gradient reaches it from a known pixel. Without a mask it is `inner` itself. Source: the public
    re-implementation of Saharia et al. 2022 (2111.05826).
    """

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        if cond is None or "mask" not in cond:
            estimate: Estimate = self.inner(xt, t, cond)
            return estimate
        hole, known = cond["mask"].to(xt.device) > 0, cond["image"].to(xt)
        estimate = self.inner(torch.where(hole, xt, known), t, cond)
        var = None if estimate.var is None else torch.where(hole, estimate.var, 0.0)
        return estimate._replace(mean=torch.where(hole, estimate.mean, known), var=var)
