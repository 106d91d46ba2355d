"""`sfumato list`: the published methods of the field, and which of them work here."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato import recipes
from sfumato.cli.console import Console
from sfumato.cli.options import Json, Quiet, Verbose, one_of

STATUS = ("works", "planned")


def command(
    task: Annotated[str, typer.Option(help="Keep methods whose tasks hold this text: inpainting, speech.")] = "",
    modality: Annotated[str, typer.Option(help="Keep those for this modality, and those for any: image, audio.")] = "",
    kind: Annotated[str, typer.Option(help="Keep this kind: sampler, process, zero-shot, supervised.")] = "",
    venue: Annotated[str, typer.Option(help="Keep venues that hold this text: NeurIPS, 2022.")] = "",
    status: Annotated[str, typer.Option(help="works (here) or planned.")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the methods of the field: key, whether it works here, venue, tasks, paper, title; -v: authors, code."""
    console = Console(as_json=as_json, quiet=quiet)
    if status:
        one_of(status, STATUS, "status")
    here, listed = recipes.names(), {entry.key for entry in recipes.catalogue()}
    own = [_own(key, module) for key, module in here.items() if key not in listed]
    count = 0
    for entry in [*recipes.catalogue(), *own]:
        state = "works" if entry.key in here else "planned"
        if status not in ("", state) or not _has(entry.tasks, task) or not _has(entry.kind, kind):
            continue
        if not _has(entry.venue, venue) or not (_has(entry.modality, modality) or entry.modality == "any"):
            continue
        count += 1
        console.emit("item", **entry._asdict(), status=state)
        console.data(
            f"{entry.key:<22} {state:<8} {entry.venue:<24} {entry.tasks:<32} {entry.reference:<26} {entry.title}"
        )
        if verbose:
            console.data(f"{'':<22} {entry.authors}; {entry.kind}; code: {entry.code or 'none'}")
    console.emit("done", count=count)
    console.note(f"{count} methods; {len(here)} keys work here. `sfumato show KEY` explains one.")


def _own(key: str, module: str) -> recipes.Entry:
    """A row for a part that works here and is no entry of the catalogue."""
    title = recipes.describe(key).title
    return recipes.Entry(key, title, "", "", "", "any", "", module.split(".")[1].removesuffix("s"), "", "")


def _has(text: str, wanted: str) -> bool:
    return wanted.lower() in text.lower()
