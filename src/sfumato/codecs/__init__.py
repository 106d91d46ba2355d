"""Codecs: data space <-> model space."""

from sfumato.codecs.alphabet import Alphabet
from sfumato.codecs.base import Affine, Codec
from sfumato.codecs.channels import Channels
from sfumato.codecs.haar import Haar
from sfumato.codecs.latent import Latent
from sfumato.codecs.logit import Logit
from sfumato.codecs.quantized import Quantized

__all__ = [
    "Affine",
    "Alphabet",
    "Channels",
    "Codec",
    "Haar",
    "Latent",
    "Logit",
    "Quantized",
]
