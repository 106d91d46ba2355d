"""Data: one file per modality, and benchmark sets by name."""

from sfumato.data.layouts import LAYOUTS, clean, pairs
from sfumato.data.pairing import Pair

__all__ = ["LAYOUTS", "Pair", "clean", "pairs"]
