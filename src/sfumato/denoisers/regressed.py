"""A regression in the place of a denoiser: an estimate that does not look at the state."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Process, Time


class Regressed(Denoiser):
    """m(y), y = cond["image"], whatever x_t is: one step of any sampler to t = 0 is one pass of the network.

    Args:
        net: m, (B, C, H, W) to (B, C, H, W).
        process: whose grid and prior a sampler takes, for nothing.
    """

    def __init__(self, net: nn.Module, process: Process) -> None:
        super().__init__()
        self.net, self.process = net, process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        if cond is None:
            raise ValueError('a regression needs a damaged picture: denoiser.given({"image": y}).')
        return Estimate(self.net(cond["image"]))
