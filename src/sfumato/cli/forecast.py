"""`sfumato forecast TABLE --horizon H`: the next rows of a table, with quantiles and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli import series
from sfumato.cli.console import Console
from sfumato.cli.options import Dry, Json, Out, Quiet, Seed, Verbose
from sfumato.cli.series import Settings

__all__ = ["Settings", "command", "run"]


def command(
    file: series.Table,
    horizon: Annotated[int, typer.Option("--horizon", min=1, help="How many rows ahead.")],
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
    samples: Annotated[int, typer.Option("--samples", min=2, help="How many ways it may go on.")] = 200,
    minutes: series.Minutes = 1.0,
    steps: series.Steps = None,
    seed: Seed = 0,
    out: Out = Path("forecast"),
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Forecast a table: quantiles.csv, samples.npy, a plot with its fan, and a manifest that repeats the run."""
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
        horizon=horizon,
        samples=samples,
        minutes=minutes,
        steps=steps,
        seed=seed,
    )
    run(wanted, out, Console(as_json=as_json, quiet=quiet), dry=dry)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Forecasts what the settings say, into the folder `out`."""
    series.run("forecast", wanted, out, console, dry=dry)
