"""Pictures restored in one pass, told by a vector; and the networks that say the vector (DiffIR)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import UNet, pad_to


class VectorEncoder(nn.Module):
    """A picture of `channels` channels to a vector, (B, size): folded by 4, residual blocks, a mean over all places."""

    def __init__(self, channels: int, size: int = 256, width: int = 64, blocks: int = 5) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels * 16, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.leave = nn.Sequential(nn.Linear(width, size), nn.LeakyReLU(0.1), nn.Linear(size, size))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.enter(F.pixel_unshuffle(pad_to(x, 4), 4)), 0.1)
        for block in self.blocks:
            h = h + block(h)
        out: Tensor = self.leave(h.mean((2, 3)))
        return out


class VectorNet(nn.Module):
    """`net(z, c_noise, {"vector": c})`: an estimate of z_0, (B, size), from c, the noise level and z."""

    def __init__(self, size: int = 256, blocks: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * size + 1, size)
        self.blocks = nn.ModuleList(nn.Linear(size, size) for _ in range(blocks))
        self.leave = nn.Linear(size, size)

    def forward(self, z: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        h = F.leaky_relu(self.enter(torch.cat([cond["vector"].to(z), c_noise[:, None], z], 1)), 0.1)
        for block in self.blocks:
            h = h + F.leaky_relu(block(h), 0.1)
        out: Tensor = self.leave(h)
        return out


class Told(nn.Module):
    """x_hat = y + F(y, z), F a U-Net whose every block is scaled and shifted by the vector z; y before training."""

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        out: Tensor = y + self.net(y, y.new_zeros(len(y)), {"vector": z})
        return out
