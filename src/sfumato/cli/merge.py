"""`sfumato merge FOLDER...`: the blocks of all shards as one folder of results, once none is missing or double.

Of a run of adapters (LoRA) it makes a model whose weights hold them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Json, Quiet, Verbose


def command(
    folders: Annotated[list[Path], typer.Argument(help="The folders that the shards wrote; or one run of adapters.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if it is not there.")],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Join what shards wrote: every block there, none twice, every file as its record says; else nothing is written."""
    console = Console(as_json=as_json, quiet=quiet)
    if len(folders) == 1 and (folders[0] / "config.json").is_file():
        adapters(folders[0], out, console)
    else:
        run(folders, out, console)


def adapters(folder: Path, out: Path, console: Console) -> None:
    """The model of a run of adapters, their corrections added to the weights that they correct."""
    from sfumato import zoo

    console.emit("start", command="merge", folders=[str(folder)])
    zoo.load(folder).save(out)
    console.data(str(out))
    console.emit("done", out=str(out))


def run(folders: list[Path], out: Path, console: Console) -> None:
    """Joins the folders of one job into `out`; files are linked where the disk allows it, else copied."""
    from sfumato.cli import evaluate, outputs
    from sfumato.engines import collect

    console.emit("start", command="merge", folders=[str(folder) for folder in folders])
    job, files, versions = collect(folders)
    with outputs.writing(out) as part:
        for name, path in files.items():
            try:
                os.link(path, part / name)
            except OSError:
                shutil.copyfile(path, part / name)
        result = None
        if job.command == "evaluate":  # what the shards wrote are parts of one figure
            result = evaluate.figures(job.settings, job.inputs, (path.read_bytes() for path in files.values()))
            evaluate.write(part / evaluate.RESULT, result)
        content = {"command": job.command, "settings": job.settings, "items": job.count, "blocks": len(job)}
        outputs.write_manifest(part, content | {"torch": versions})
    console.note(
        f"{len(job)} blocks, {job.count} items, {len(files)} files: none missing, none double, all as recorded."
    )
    if result is not None:
        evaluate.show(result, console)
    console.data(str(out))
    console.emit("done", out=str(out), files=len(files))
