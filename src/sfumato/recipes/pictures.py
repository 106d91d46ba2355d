"""The fields and the network that recipes of pictures and signals share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Labelled:
    """A network of pictures or signals, with classes where the data have them: what `sfumato train` fills in.

    Args:
        drop: share of samples whose class is dropped in training, for classifier-free guidance.
    """

    channels: int = 3
    widths: tuple[int, ...] = (64, 96, 128)
    blocks: int = 2
    patch: int = 1
    attention: tuple[int, ...] = ()
    dims: int = 2
    classes: int = 0
    dropout: float = 0.0
    drop: float = 0.1

    def net(self) -> nn.Module:
        """The untrained network."""
        return self.build(UNet)

    def build(self, kind: Callable[..., nn.Module]) -> nn.Module:
        """A network of this kind with these fields."""
        return kind(
            self.channels,
            tuple(self.widths),
            self.blocks,
            patch=self.patch,
            attention=tuple(self.attention),
            dims=self.dims,
            classes=self.classes,
            dropout=self.dropout,
        )

    def dropping(self) -> dict[str, Any]:
        """The options of a `Denoising` loss that drop the class, where there are classes."""
        return {"drop": self.drop if self.classes else 0.0, "null": self.null}

    def null(self, cond: Any) -> Any:
        """The label that means no class, for every row; what else is in a dict stays."""
        if isinstance(cond, Mapping):
            return {**cond, "label": self.null(cond["label"])}
        assert isinstance(cond, Tensor)
        return torch.full_like(cond, self.classes)
