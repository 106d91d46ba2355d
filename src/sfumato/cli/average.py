"""`sfumato average RUN --width 0.08`: averaged weights whose length is chosen after training, as a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Json, Out, Quiet, Verbose


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run trained with --ema-width.")],
    width: Annotated[float, typer.Option(help="Relative width of the profile: 0.05 is short, 0.20 long.")],
    step: Annotated[int | None, typer.Option(min=1, help="Where it ends; the last snapshot if not given.")] = None,
    out: Out = Path("model"),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Mix a run's snapshots into the weights averaged with any width (Karras et al. 2024), as a model's folder."""
    from sfumato.training import averages
    from sfumato.zoo import files

    console = Console(as_json=as_json, quiet=quiet)
    config = files.read_config(run)
    if "lora" in config:
        raise ValueError(f"{run} holds adapters alone: `sfumato merge {run}` makes a model of it.")
    console.emit("start", command="average", run=str(run), width=width, step=step)
    prefix = "denoiser."
    mixed = averages.mixed(run, width, step)
    weights = {k.removeprefix(prefix): v for k, v in mixed.items() if k.startswith(prefix)}
    _, denoiser = files.build(config)
    denoiser.load_state_dict(weights)
    files.write(out, config, weights)
    console.data(str(out))
    console.emit("done", out=str(out))
