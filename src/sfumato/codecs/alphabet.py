"""Characters as categories."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.codecs.base import Codec


@dataclass(frozen=True)
class Alphabet(Codec):
    """z = the place of a character among `symbols`; data are code points. Both int64, (B, L).

    Args:
        symbols: the characters, each once.
    """

    symbols: str

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ValueError("an alphabet is at least one character, each once.")

    def encode(self, x: Tensor) -> Tensor:
        """Places of code points.

        Raises:
            ValueError: for a character that is not of the alphabet.
        """
        points = torch.tensor([ord(c) for c in self.symbols], device=x.device)
        ordered, place = points.sort()
        at = torch.searchsorted(ordered, x).clamp(max=len(points) - 1)
        strange = x[ordered[at] != x]
        if len(strange):
            raise ValueError(f"the alphabet lacks {chr(int(strange[0]))!r}: it has {self.symbols!r}.")
        return place[at]

    def decode(self, z: Tensor) -> Tensor:
        return torch.tensor([ord(c) for c in self.symbols], device=z.device)[z]


def points(text: str) -> Tensor:
    """The code points of a text, int64, (L,)."""
    return torch.tensor([ord(c) for c in text], dtype=torch.int64)


def text(x: Tensor) -> str:
    """The text of code points (L,)."""
    return "".join(map(chr, x.tolist()))
