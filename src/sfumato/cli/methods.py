"""Methods named on the command line."""

from __future__ import annotations

from typing import Any

import typer

from sfumato import recipes
from sfumato.cli.options import one_of


def method(key: str, folder: str, kind: type) -> Any:
    """The class of a method of a kind, from its key.

    Raises:
        typer.BadParameter: if no method of that kind has the key, with the nearest keys.
    """
    known = [name for name, module in recipes.names().items() if module.split(".")[1] == folder]
    found = recipes.load(one_of(key, known, folder.removesuffix("s"))).Recipe
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise typer.BadParameter(f"{key!r} is no {kind.__name__}: `sfumato show {key}` says what it is.")
    return found
