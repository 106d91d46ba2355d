"""Guides: denoisers made of denoisers, that steer."""

from sfumato.guides.cfg import CFG

__all__ = ["CFG"]
