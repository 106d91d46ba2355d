"""A small convolutional variational autoencoder: images to maps of fewer numbers and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import CONV, CONV_TRANSPOSE, ChannelNorm, pad_to, shuffle, unshuffle
from sfumato.noise import Noise


class Autoencoder(nn.Module):
    """E: (B, channels, *size) to mean and log variance (B, latent, *size / stride), stride = patch 2^(levels-1); G
    back.

    Args:
        channels: of the data.
        latent: channels of the code.
        widths: feature channels of each level, the finest first; each level has half the resolution of the one before.
        blocks: residual blocks of a level.
        patch: space-to-depth factor at the entrance and the exit: 2 quarters the work on images.
        dims: 1 for signals (B, C, L), 2 for images (B, C, H, W).

    Sizes that the strides do not divide are padded by reflection on the way in, and `decode` crops to the size it is
    told. log q is held to [-30, 20], as in the public code of LDM.
    Source: Kingma & Welling 2014 (1312.6114); the map as code: Rombach et al. 2022 (2112.10752) section 3.1.
    """

    def __init__(
        self,
        channels: int = 1,
        latent: int = 4,
        widths: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        dims: int = 2,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.latent, self.patch, self.stride = latent, patch, patch * 2 ** (len(widths) - 1)
        conv, cells = CONV[dims], channels * patch**dims
        down: list[nn.Module] = [conv(cells, widths[0], 3, padding=1)]
        up: list[nn.Module] = [conv(latent, widths[-1], 3, padding=1)]
        for i, width in enumerate(widths):
            down += [Residual(width, dims) for _ in range(blocks)]
            if i + 1 < len(widths):
                down.append(conv(width, widths[i + 1], 2, stride=2))
        for i in reversed(range(len(widths))):
            up += [Residual(widths[i], dims) for _ in range(blocks)]
            if i:
                up.append(CONV_TRANSPOSE[dims](widths[i], widths[i - 1], 2, stride=2))
        down += [ChannelNorm(widths[-1]), nn.SiLU(), conv(widths[-1], 2 * latent, 3, padding=1)]
        up += [ChannelNorm(widths[0]), nn.SiLU(), conv(widths[0], cells, 3, padding=1)]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        if dims == 2:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log variance) of q(z | x)."""
        mean, log_var = self.down(unshuffle(pad_to(x, self.stride), self.patch)).chunk(2, 1)
        return mean, log_var.clamp(-30.0, 20.0)

    def draw(self, x: Tensor, noise: Noise) -> Tensor:
        """z ~ q(z | x), differentiable in the weights."""
        mean, log_var = self.encode(x)
        return mean + torch.exp(0.5 * log_var) * noise.normal(mean)

    def decode(self, z: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The mean of p(x | z), cropped to `size`."""
        x = shuffle(self.up(z), self.patch)
        window: tuple[Any, ...] = (..., *(slice(n) for n in size or ()))
        return x[window]

    def shape(self, event: Sequence[int]) -> tuple[int, ...]:
        """Shape of the code of an event (channels, *size)."""
        return (self.latent, *(math.ceil(n / self.stride) for n in event[1:]))


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, width: int, dims: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.conv1, self.conv2 = (CONV[dims](width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))
