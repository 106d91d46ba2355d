"""A measurement seen from a latent space: the data space behind it, and what solvers in latent spaces ask of it."""

from __future__ import annotations

from dataclasses import replace

from sfumato.codecs import Affine, Codec
from sfumato.operators import Decoded, Linear, Measurement, Operator


def on_data(m: Measurement) -> tuple[Measurement, Codec]:
    """(the measurement of data, the codec from there to the codes) of a measurement of codes.

    Where no decoder stands in front of the operator the two spaces are one: m itself, and the identity.
    """
    if isinstance(m.operator, Decoded):
        return replace(m, operator=m.operator.outer), m.operator.codec
    return m, Affine()


def linear_on_data(name: str, operator: Operator) -> None:
    """Raises TypeError unless the operator on data, behind a decoder or without, is linear."""
    outer = operator.outer if isinstance(operator, Decoded) else operator
    if not isinstance(outer, Linear):
        raise TypeError(f"{name} needs a Linear operator on data, got {type(outer).__name__}. Use ReSample or DPS.")
