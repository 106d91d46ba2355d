"""An autoencoder's decoder in front of an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sfumato.operators.base import Operator

if TYPE_CHECKING:
    from sfumato.codecs import Codec


@dataclass(frozen=True, eq=False)
class Decoded(Operator):
    """y = A(G(z)): an operator on data, of the codes z that a decoder G makes data of. `Measurement.to_model` makes it.

    Not linear, whatever A: methods that follow a gradient take it as any other operator, and those for latent spaces
    (PSLD, ReSample, STSL) find in it the data space, A and the encoder.

    Args:
        outer: A, on data.
        codec: G and its encoder, for data of the one size that A is for.
    """

    outer: Operator
    codec: Codec

    def __call__(self, z: Tensor) -> Tensor:
        return self.outer(self.codec.decode(z))

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(self.codec.latent(self.outer.event(y)))

    def of_rows(self, index: Sequence[int], y: Tensor) -> Decoded:
        return Decoded(self.outer.of_rows(index, y), self.codec)

    @property
    def parameters(self) -> Any:
        """Those of A."""
        return self.outer.parameters

    def at(self, parameters: Any) -> Decoded:
        """A with other parameters, of the same codes."""
        return Decoded(self.outer.at(parameters), self.codec)

    @property
    def seen(self) -> Callable[[Tensor], Tensor] | None:
        """What a mask that comes last leaves empty: noise stays zero there."""
        found: Any = getattr(self.outer, "seen", None)
        return found
