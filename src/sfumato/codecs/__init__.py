"""Codecs: data space <-> model space."""

from sfumato.codecs.base import Affine, Codec

__all__ = ["Affine", "Codec"]
