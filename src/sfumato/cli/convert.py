"""`sfumato convert FILE`: a published checkpoint of another code as a model of ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Dry, Json, Out, Quiet, Set, Verbose, checked, pairs


class Away(StrEnum):
    """What a model of ours can become."""

    diffusers = "diffusers"


def command(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Weights, or a folder of diffusers; with --to, a model of ours.")
    ],
    out: Out = Path("model"),
    to: Annotated[
        Away | None, typer.Option("--to", help="The other way: a model of ours as a folder of that library.")
    ] = None,
    settings: Set = [],  # noqa: B006
    trust: Annotated[
        bool, typer.Option("--trust", help="Read pickles that hold more than weights: they can run any code.")
    ] = False,
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Convert a checkpoint of another code into a folder that `sfumato sample` and `restore` take as a model."""
    console = Console(as_json=as_json, quiet=quiet)
    if to is not None:
        if settings:
            raise typer.BadParameter("--set says what a file of another code leaves open: it has no use with --to.")
        _away(console, source, out, dry)
        return
    from sfumato import recipes
    from sfumato.zoo import files, foreign

    found = foreign.find(source, trust=trust)
    fields = foreign.settled(found, checked(recipes.load(found.recipe).Recipe, pairs(settings)))
    content = foreign.config(found, fields)
    what = f"{found.release or found.format}: {found.recipe}"
    console.emit("start", command="convert", source=str(source), format=found.format, config=content)
    weights = foreign.weights(found, fields)
    if dry:
        console.data(f"would convert {what}, into {out}")
        console.emit("done", dry_run=True)
        return
    files.write(out, content, weights)
    numbers = sum(v.numel() for v in weights.values())
    console.note(f"{what}, {numbers / 1e6:.2f} million weights.")
    console.data(str(out))
    console.emit("done", out=str(out))


def _away(console: Console, source: Path, out: Path, dry: bool) -> None:
    """Writes a model of ours as a folder of diffusers."""
    from sfumato.zoo.outgoing import outgoing

    found = outgoing(source)
    console.emit("start", command="convert", source=str(source), format="diffusers", config=found.scheduler)
    if dry:
        console.data(f"would write a {found.unet['_class_name']} into {out}")
        console.emit("done", dry_run=True)
        return
    found.write(out)
    console.data(str(out))
    console.emit("done", out=str(out))
