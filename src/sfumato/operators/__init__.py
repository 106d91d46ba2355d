"""Operators: degradations, and measurements made through them."""

from sfumato.operators.base import Function, Linear, LinearFunction, Operator, Spectral, conjugate_gradients
from sfumato.operators.identity import Identity
from sfumato.operators.mask import Mask
from sfumato.operators.matrix import Matrix
from sfumato.operators.measurement import Measurement

__all__ = [
    "Function",
    "Identity",
    "Linear",
    "LinearFunction",
    "Mask",
    "Matrix",
    "Measurement",
    "Operator",
    "Spectral",
    "conjugate_gradients",
]
