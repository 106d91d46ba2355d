"""What recipes of trained models share: the library's U-Net and its fields."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.nets import UNet


@dataclass(frozen=True)
class Network:
    """The fields of the U-Net that a recipe trains; the papers' own networks differ (ours)."""

    channels: int = 3
    widths: tuple[int, ...] = (64, 96, 128)
    blocks: int = 2
    patch: int = 1
    attention: tuple[int, ...] = ()
    dims: int = 2
    classes: int = 0
    dropout: float = 0.0

    def net(self) -> nn.Module:
        """The U-Net that is preconditioned."""
        return UNet(
            self.channels,
            tuple(self.widths),
            self.blocks,
            patch=self.patch,
            attention=tuple(self.attention),
            dims=self.dims,
            classes=self.classes,
            dropout=self.dropout,
        )
