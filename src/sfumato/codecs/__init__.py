"""Codecs: data space <-> model space."""

from sfumato.codecs.base import Affine, Codec
from sfumato.codecs.logit import Logit

__all__ = ["Affine", "Codec", "Logit"]
