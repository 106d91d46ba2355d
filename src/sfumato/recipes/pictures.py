"""The fields and the network that recipes of pictures and signals share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.nets import UNet


@dataclass(frozen=True)
class Pictures:
    """The library's U-Net, by its fields."""

    channels: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    blocks: int = 2
    patch: int = 1  # space-to-depth factor at the entrance
    attention: tuple[int, ...] = (1,)  # levels with self-attention, 0 the finest
    dims: int = 2  # 1: signals
    dropout: float = 0.1

    def net(self) -> nn.Module:
        """The untrained U-Net."""
        return self.unet()

    def unet(self, entering: int = 1, leaving: int = 1) -> UNet:
        """A U-Net with multiples of `channels` at its two ends."""
        return UNet(
            self.channels * entering,
            tuple(self.widths),
            self.blocks,
            patch=self.patch,
            attention=tuple(self.attention),
            dims=self.dims,
            dropout=self.dropout,
            out=self.channels * leaving,
        )
