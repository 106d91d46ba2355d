"""Codecs: data space <-> model space."""

from sfumato.codecs.base import Affine, Codec
from sfumato.codecs.latent import Latent

__all__ = ["Affine", "Codec", "Latent"]
