"""Shipped models, and the `Model` that any trained denoiser becomes."""

from sfumato.zoo import defaults
from sfumato.zoo.files import shipped
from sfumato.zoo.foreign import convert
from sfumato.zoo.model import Model, load, load_classifier
from sfumato.zoo.result import Result

__all__ = ["Model", "Result", "convert", "defaults", "load", "load_classifier", "shipped"]
