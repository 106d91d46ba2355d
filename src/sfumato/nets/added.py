"""A U-Net to whose first level the features of a condition are added."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import UNet, pad_to


class Added(nn.Module):
    """`net(u, c_noise, cond)` with cond["features"], (B, widths[0], *size), added once after the first level.

    Where the net sees patches, the features of a patch are averaged (ours).

    Source: public code of Li et al. 2022 (2104.14951).
    """

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        features = F.avg_pool2d(pad_to(cond["features"].to(u), self.net.stride), self.net.patch)
        out: Tensor = self.net(u, c_noise, cond, [features, *[0.0] * (len(self.net.down) - 1)])
        return out
