"""Clean wavelet details from damaged ones (the high-frequency restoration module of DiffLL)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.resdiff import Guided


class DetailNet(nn.Module):
    """d + F(d) for Haar details d, (B, 3 C, H, W), across, down and diagonal; d itself before training.

    Each band has a depthwise and a pointwise convolution; the diagonal is the query that the two others are attended
    by (across channels: ours), and a block of dilated convolutions mixes all three.

    Source: Jiang et al. 2023 (2306.00306), its high-frequency restoration module.
    """

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.bands = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Conv2d(channels, width, 1))
            for _ in range(3)
        )
        self.crossed = nn.ModuleList(Guided(width, width) for _ in range(2))
        self.mix = nn.ModuleList(
            nn.Conv2d(3 * width if i == 0 else width, width, 3, padding=d, dilation=d) for i, d in enumerate((1, 2, 3))
        )
        self.leave = nn.Conv2d(width, 3 * channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, d: Tensor) -> Tensor:
        across, down, diagonal = (band(part) for band, part in zip(self.bands, d.chunk(3, 1), strict=True))
        told = [cross(part, diagonal) for cross, part in zip(self.crossed, (across, down), strict=True)]
        x = torch.cat([*told, diagonal], 1)
        for layer in self.mix:
            x = F.leaky_relu(layer(x), 0.2)
        out: Tensor = d + self.leave(x)
        return out
