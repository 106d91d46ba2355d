"""Options that mean the same in every command, and the check of `--set field=value`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Precision(StrEnum):
    """Precision of the state; a network runs in its own."""

    float32 = "float32"
    float64 = "float64"


Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it is not there.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the noise: sample i is the same whatever the batch.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[Precision, typer.Option("--dtype", help="Precision of the state.")]
Shard = Annotated[
    str,
    typer.Option(metavar="I/N", help="Part I (from 1) of N; a rerun skips what is done, `sfumato merge` joins."),
]
Engine = Annotated[
    str,
    typer.Option(metavar="ray|dask[:ADDRESS]", help="Workers of Ray or Dask, of a cluster or here; joined in --out."),
]
Workers = Annotated[int, typer.Option(min=1, help="--engine: processes that load the model.")]
Dataset = Annotated[
    str, typer.Option(metavar="NAME:DIR", help="A benchmark set by name, in the place of a folder: gopro:DIR.")
]
Split = Annotated[str, typer.Option(help="Of --dataset: train, test, or what else the set has.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Resolve and check everything, print it, run nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More; the traceback of a failure.")]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="FIELD=VALUE", help="A field of the method; `sfumato show KEY` lists them."),
]


def one_of(word: str, known: Iterable[str], what: str) -> str:
    """`word`, if it is known.

    Raises:
        typer.BadParameter: with the nearest known words.
    """
    from sfumato import recipes

    have = list(known)
    if word not in have:
        raise typer.BadParameter(f"no {what} {word!r}.{recipes.nearest(word, have)} Known: {', '.join(have)}.")
    return word


def source(given: Path | None, dataset: str, what: str) -> tuple[Path, str]:
    """(path, name of the benchmark set or ""), from an argument or --dataset NAME:DIR.

    Raises:
        typer.BadParameter: if neither is given, or both are.
        ValueError: for a set that is not known.
    """
    from sfumato.data.layouts import parse

    if (given is None) == (not dataset):
        raise typer.BadParameter(f"name {what}, or a benchmark set by --dataset NAME:DIR.")
    if given is not None:
        return given, ""
    found = parse(dataset)
    if found is None:
        raise typer.BadParameter(f"--dataset takes NAME:DIR, got {dataset!r}.")
    return found[1], found[0]


def pairs(settings: Sequence[str]) -> dict[str, str]:
    """`field=value` words as a dict of texts."""
    found = {}
    for word in settings:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--set takes FIELD=VALUE, got {word!r}.")
        found[name.strip()] = value.strip()
    return found


def checked(make: type, texts: dict[str, str]) -> dict[str, Any]:
    """The values of a dataclass's fields from texts, checked by pydantic against the annotations.

    Raises:
        typer.BadParameter: for an unknown field, with the nearest ones, or a value that does not fit.
    """
    import dataclasses
    import typing

    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    known = [field.name for field in dataclasses.fields(make) if field.init]
    values: dict[str, Any] = {}
    for name, text in texts.items():
        one_of(name, known, f"field of {make.__name__}")
        annotation = typing.get_type_hints(make)[name]
        try:
            adapter = TypeAdapter(annotation)
        except PydanticSchemaGenerationError:
            raise typer.BadParameter(f"the field {name!r} is an object ({annotation}): set it from Python.") from None
        try:
            values[name] = adapter.validate_python(_plain(text))
        except ValidationError:
            try:
                values[name] = adapter.validate_python(text)
            except ValidationError as error:
                why = error.errors()[0]["msg"]
                if error.errors()[0]["type"] == "tuple_type":
                    why += f", as in '{name}=[1, 2]'"
                raise typer.BadParameter(f"{name}={text} does not fit {annotation}: {why}.") from None
    return values


def _plain(text: str) -> Any:
    """A number, list, true, false or null as JSON writes it; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return None if text == "None" else text


def device(name: str) -> str:
    """The device, if this machine has it.

    Raises:
        typer.BadParameter: for one that it lacks.
    """
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise typer.BadParameter(
            f"the device {name!r} is not here ({why}); `sfumato doctor` lists those that are."
        ) from None
    return name
