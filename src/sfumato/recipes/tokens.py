"""The fields and the networks that recipes on categories share: levels of pictures, or symbols of text."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.nets import Levels, Transformer
from sfumato.recipes.pictures import Pictures


@dataclass(frozen=True)
class Tokens(Pictures):
    """Pictures of `levels` levels through the U-Net, or text of `length` symbols in a transformer."""

    levels: int = 256  # K, categories of the data
    length: int = 0  # symbols of a text; 0: pictures
    width: int = 512  # of the transformer
    depth: int = 12
    heads: int = 8

    def network(self, *, masked: bool, logistic: bool) -> nn.Module:
        """The untrained network: states in (a mask is one more), logits of `levels` categories out."""
        if self.length:
            return Transformer(self.levels + masked, self.levels, self.width, self.depth, self.heads, self.dropout)
        inner = self.unet(1 + masked, 2 if logistic else self.levels)
        return Levels(inner, self.levels, masked=masked, logistic=logistic)
