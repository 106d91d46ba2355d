"""Shipped models, and the `Model` that any trained denoiser becomes."""

from sfumato.zoo.files import shipped
from sfumato.zoo.model import Model, load
from sfumato.zoo.result import Result

__all__ = ["Model", "Result", "load", "shipped"]
