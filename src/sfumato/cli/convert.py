"""`sfumato convert FILE`: a published checkpoint of another code as a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Dry, Json, Out, Quiet, Set, Verbose, checked, pairs


def command(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Weights, or a folder of diffusers.")],
    out: Out = Path("model"),
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
    from sfumato import recipes
    from sfumato.zoo import files, foreign

    console = Console(as_json=as_json, quiet=quiet)
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
