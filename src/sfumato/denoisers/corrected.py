"""A network that corrects the state it is shown, for ways back that begin at the damaged picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Process, Time


class Corrected(Denoiser):
    """D = x_t + F(x_t, clock(t), cond): a network that says nothing returns the state (ours; the papers regress D).

    Unlike `Preconditioned` it takes nothing off the state and asks nothing of the process, so that a network which is
    told no condition sees none of it.

    Args:
        net: `net(x_t, c_noise, cond)`, c_noise of shape (B,).
        process: any.
        clock: what the network is told of the time.
    """

    def __init__(self, net: nn.Module, process: Process, clock: Callable[[Time], Time] = lambda t: 10.0 * t) -> None:
        super().__init__()
        self.net, self.process, self.clock = net, process, clock

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        dtype = next((p.dtype for p in self.net.parameters()), xt.dtype)
        level = torch.as_tensor(self.clock(t), dtype=dtype, device=xt.device).expand(len(xt))
        return Estimate(xt + self.net(xt.to(dtype), level, cond).to(xt.dtype))
