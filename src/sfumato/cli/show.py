"""`sfumato show KEY`: what a method is, its formula, its fields, its paper, its limits, a command that runs."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato import recipes
from sfumato.cli.console import Console
from sfumato.cli.options import Json, Quiet, Verbose

EXAMPLES = {
    "solvers": "sfumato restore picture.png --operator inpaint --mask mask.png --solver {key} --samples 4 -o out",
    "samplers": "sfumato sample fashion -n 16 --sampler {key} -o out",
    "recipes": "sfumato train FOLDER --recipe {key} -o run",
}
# What a method must have for the example of its folder to run: not all samplers start from a denoiser, not all recipes
# are trained.
NEEDS = {"samplers": "step", "recipes": "model"}
PYTHON = "python -c 'import sfumato as sf; print(sf.recipes.load(\"{key}\").Recipe)'"


def command(
    key: Annotated[str, typer.Argument(help="A key of `sfumato list`.")],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show a method: what it is, formula, fields, paper, limits, and a command that runs it."""
    console = Console(as_json=as_json, quiet=quiet)
    entries = {entry.key: entry for entry in recipes.catalogue()}
    one_of_all(key)
    entry = entries.get(key)
    if key not in recipes.names():
        assert entry is not None
        console.emit("item", **entry._asdict(), status="planned")
        console.data(f"{key}: {entry.title}\n{_paper(entry)}\n\nIt does not work here yet.")
        return
    said = recipes.describe(key)
    example = example_of(said)
    paper = entry._asdict() if entry else {}
    fields = [field._asdict() for field in said.fields]
    console.emit("item", **{**paper, "key": key, "status": "works", "module": said.module, "text": said.text})
    console.emit("item", key=key, fields=fields, example=example)
    console.data(f"{said.title}\n{said.module}\n")
    if entry:
        console.data(f"{entry.title}\n{_paper(entry)}\n")
    if said.text:
        console.data(f"{said.text}\n")
    if said.fields:
        console.data("Fields (--set FIELD=VALUE):")
        for field in said.fields:
            default = "" if field.default is None else f" = {field.default}"
            console.data(
                f"  {field.name}: {field.annotation}{default}" + (f"  # {field.comment}" if field.comment else "")
            )
        console.data("")
    console.data(f"Run it:\n{example}")  # not indented: one may be Python over several lines, to be pasted


def example_of(said: recipes.Description) -> str:
    """A command that runs the method: its own, or that of its folder."""
    folder = said.module.split(".")[1]
    runs = folder not in NEEDS or NEEDS[folder] in said.methods
    return said.example or (EXAMPLES.get(folder, PYTHON) if runs else PYTHON).format(key=said.key)


def one_of_all(key: str) -> str:
    """The key, if it is one of a method here or in the catalogue."""
    known = [*recipes.names(), *(entry.key for entry in recipes.catalogue())]
    if key in known:
        return key
    raise typer.BadParameter(
        f"no method has the key {key!r}.{recipes.nearest(key, known)} `sfumato list` has them all."
    )


def _paper(entry: recipes.Entry) -> str:
    code = f"; code: https://github.com/{entry.code}" if entry.code else ""
    return f"{entry.authors}. {entry.venue}. {entry.reference}{code}\n{entry.modality}; {entry.tasks}; {entry.kind}"
