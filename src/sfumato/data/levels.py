"""Pictures as levels: any source of pictures, its items as categories."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from sfumato.codecs import Codec, Quantized
from sfumato.noise import Seeds


class Pictures(Protocol):
    """A source of pictures: items in model space, a codec to [0, 1], the shape of one, names of classes."""

    codec: Any
    event: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int: ...

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Any]: ...


class Levels:
    """The items of `source` as int64 levels.

    Args:
        source: pictures, whose codec leads to [0, 1].
        levels: of each channel.
    """

    def __init__(self, source: Pictures, levels: int) -> None:
        self.source, self.codec = source, Quantized(levels)
        self.event, self.names = source.event, source.names

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): (B, *event) int64; classes are not used."""
        x0, _ = self.source.batch(items, noise)
        decoder: Codec = self.source.codec
        # Rounding must not fall below the level that it came from.
        return self.codec.encode(decoder.decode(x0.double()) + 1e-6), None
