"""Files of other codes: what each holds, said as a recipe, its fields and the weights under our network's names.

A format is a file with a function `find(content) -> Found | None`, None where the keys are not its own.
"""

from sfumato.zoo.formats.base import Found

__all__ = ["Found"]
