"""`sfumato forecast TABLE --horizon H`: the next rows of a table, with quantiles and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import series
from sfumato.cli.console import Console
from sfumato.cli.options import Out
from sfumato.cli.series import Settings

__all__ = ["Settings", "command", "run"]

command = series.declared(
    "forecast",
    "Forecast a table: quantiles.csv, samples.npy, a plot with its fan, and a manifest that repeats the run.",
    horizon=(Annotated[int, typer.Option("--horizon", min=1, help="How many rows ahead.")], ...),
    samples=(Annotated[int, typer.Option("--samples", min=2, help="How many ways it may go on.")], 200),
    out=(Out, Path("forecast")),
)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Forecasts what the settings say, into the folder `out`."""
    series.run("forecast", wanted, out, console, dry=dry)
