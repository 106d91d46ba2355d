"""`sfumato impute TABLE -o FILLED`: a table with its gaps filled, and how sure each filling is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import series
from sfumato.cli.console import Console
from sfumato.cli.options import Dry, Json, Quiet, Seed, Verbose
from sfumato.cli.series import Settings

__all__ = ["Settings", "command", "run"]


def command(
    file: series.Table,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The filled table, or a folder. What else is written is named after it.")
    ] = Path("imputed"),
    time: series.Time = "",
    target: series.Target = [],  # noqa: B006
    known: series.Known = [],  # noqa: B006
    static: series.Static = [],  # noqa: B006
    zone: series.Zone = "",
    style: series.Style = "",
    resample: series.Resample = "",
    season: series.Season = 0,
    separator: series.Separator = "",
    decimal: series.Decimal = "",
    encoding: series.Encoding = "",
    samples: Annotated[int, typer.Option("--samples", min=2, help="Fillings that the quantiles are of.")] = 100,
    minutes: series.Minutes = 1.0,
    steps: series.Steps = None,
    seed: Seed = 0,
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fill the gaps of a table by the median of samples; every cell that was there stays as it was, to the bit."""
    wanted = series.settings(
        file,
        time=time,
        targets=list(target),
        known=list(known),
        static=list(static),
        zone=zone,
        style=style,
        resample=resample,
        season=season,
        separator=separator,
        decimal=decimal,
        encoding=encoding,
        samples=samples,
        minutes=minutes,
        steps=steps,
        seed=seed,
    )
    run(wanted, out, Console(as_json=as_json, quiet=quiet), dry=dry)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Fills what the settings say, into the file or folder `out`."""
    series.run("impute", wanted, out, console, dry=dry)
