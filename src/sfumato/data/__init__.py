"""Data: one file per modality, and benchmark sets by name."""

from sfumato.data.layouts import LAYOUTS, Pair, clean, pairs

__all__ = ["LAYOUTS", "Pair", "clean", "pairs"]
