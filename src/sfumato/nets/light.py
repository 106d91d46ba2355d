"""A network that says how much light a shadow leaves: h in y = h x."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Light(nn.Module):
    """h = floor + (1 - floor) sigmoid(2 + F(y, m)), (B, C, H, W) between `floor` and 1, elementwise.

    Args:
        net: F, of the kind `net(u, c_noise)`, asked at level 0: y and m beside each other, C + 1 channels, to C.
        floor: the least light, so that y / h stays bounded.
    """

    def __init__(self, net: nn.Module, floor: float = 0.05) -> None:
        super().__init__()
        if not 0.0 < floor < 1.0:
            raise ValueError(f"the least light lies between 0 and 1, got {floor}.")
        self.net, self.floor = net, floor

    def forward(self, y: Tensor, mask: Tensor) -> Tensor:
        told = torch.cat([y, mask.to(y)], 1)
        h: Tensor = self.floor + (1.0 - self.floor) * torch.sigmoid(2.0 + self.net(told, y.new_zeros(len(y))))
        return h
