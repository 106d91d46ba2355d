"""A network of logits as a denoiser of categories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Categories, Time


class Logits(Denoiser):
    """p(x_0 | x_t) = (1 - floor) softmax(net(x_t, c_noise, cond)) + floor / K.

    Args:
        net: called with int64 x_t (B, *event), c_noise (B,) and the condition; logits (B, *event, K). States of the
            process from K on (a mask) have probability 0.
        process: on at least K categories.
        clock: c_noise of t.
        floor: share of the uniform law, so that no category is impossible and every loss finite (ours; the public code
            of D3PM adds 1e-6 inside its logarithms).
    """

    def __init__(
        self,
        net: nn.Module,
        process: Categories,
        *,
        clock: Callable[[Time], Time] = lambda t: t,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        self.net, self.process, self.clock, self.floor = net, process, clock, floor

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        assert isinstance(self.process, Categories)
        dtype = next((p.dtype for p in self.net.parameters()), torch.get_default_dtype())
        level = torch.as_tensor(self.clock(t), dtype=dtype, device=xt.device).expand(xt.shape[0])
        p = torch.softmax(self.net(xt, level, cond), -1)
        p = (1.0 - self.floor) * p + self.floor / p.shape[-1]
        return Estimate(nn.functional.pad(p, (0, self.process.classes - p.shape[-1])))
