"""`sfumato impute TABLE -o FILLED`: a table with its gaps filled, and how sure each filling is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import series
from sfumato.cli.console import Console
from sfumato.cli.series import Settings

__all__ = ["Settings", "command", "run"]

command = series.declared(
    "impute",
    "Fill the gaps of a table by the median of samples; every cell that was there stays as it was, to the bit.",
    samples=(Annotated[int, typer.Option("--samples", min=2, help="Fillings that the quantiles are of.")], 100),
    out=(
        Annotated[
            Path,
            typer.Option("--out", "-o", help="The filled table, or a folder. What else is written is named after it."),
        ],
        Path("imputed"),
    ),
)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Fills what the settings say, into the file or folder `out`."""
    series.run("impute", wanted, out, console, dry=dry)
