"""What `forecast` and `impute` share: a table in, samples out."""

from __future__ import annotations

import csv
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.console import Console

if TYPE_CHECKING:
    from sfumato.data.series import Chosen
    from sfumato.zoo.forecast import Forecast

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

Table = Annotated[Path, typer.Argument(help="The table: CSV, or Parquet (extra `tables`).")]
Time = Annotated[str, typer.Option("--time", help="Column of the times; none: the rows are a step apart.")]
Target = Annotated[list[str], typer.Option("--target", help="Column to model; repeated. All other numbers if not given.")]
Known = Annotated[list[str], typer.Option("--known", help="Column known at all times, also ahead; repeated.")]
Static = Annotated[list[str], typer.Option("--static", help="Column that holds one number; repeated.")]
Zone = Annotated[str, typer.Option("--zone", help="Time zone of the stamps, such as Europe/London, for daylight saving.")]
Style = Annotated[str, typer.Option("--time-style", help="Of the stamps, strptime's: '%d.%m.%Y %H:%M'.")]
Resample = Annotated[str, typer.Option("--resample", help="Put the rows on an even grid first: 15min, 1h, 1d, 1month.")]
Season = Annotated[int, typer.Option("--season", min=0, help="Rows in a season, where no stamps tell the calendar.")]
Separator = Annotated[str, typer.Option("--separator", help="Between cells; found out if not given.")]
Decimal = Annotated[str, typer.Option("--decimal", help="Decimal sign, . or ,; found out if not given.")]
Encoding = Annotated[str, typer.Option("--encoding", help="Of the file; UTF-8 if not given.")]
Minutes = Annotated[
    float, typer.Option("--minutes", min=0.0, max=60.0, help="How long a network may learn; 0: closed form alone.")
]
Steps = Annotated[int | None, typer.Option("--steps", min=0, help="Steps of learning, in the place of --minutes.")]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result; the file by its absolute path."""

    file: str
    time: str = ""
    targets: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    zone: str = ""
    style: str = ""
    resample: str = ""
    season: int = 0
    separator: str = ""
    decimal: str = ""
    encoding: str = ""
    horizon: int = 0
    samples: int = 200
    minutes: float = 1.0
    steps: int | None = None
    seed: int = 0

    def path(self, name: str) -> Path:
        """The path in a field."""
        return Path(getattr(self, name))


def run(command: str, wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Reads, learns, samples and writes."""
    from sfumato.cli import outputs
    from sfumato.zoo.tables import predict

    began = time.perf_counter()
    chosen = _chosen(wanted)
    series = chosen.series
    rows, gaps = len(series) - chosen.ahead, int(series.values[:, : len(series) - chosen.ahead].isnan().sum())
    what = f"{', '.join(chosen.targets)}: {rows} rows, {gaps} numbers missing"
    console.emit("start", command=command, settings=asdict(wanted), targets=chosen.targets, rows=rows, missing=gaps)
    if dry:
        console.data(f"would {command} {what}, into {out}")
        console.emit("done", dry_run=True)
        return
    console.note(what)
    if not chosen.stamps.part(0, rows).even:
        console.warn("the rows are not evenly spaced: they are taken at their times; --resample puts them on a grid.")
    with console.progress(f"{command}: learning") as tick:
        found = predict(
            chosen, samples=wanted.samples, minutes=wanted.minutes, steps=wanted.steps, seed=wanted.seed, progress=tick
        )
    content = {
        "command": command,
        # The steps that were run: a run from the manifest takes as many, however fast the machine.
        "settings": asdict(replace(wanted, steps=found.about.get("steps", 0))),
        "streams": "Seeds.keyed(seed, ((series, window), sample))",
        "inputs": {"file": outputs.digest(wanted.path("file"))},
        "model": found.about,
        "seconds": round(time.perf_counter() - began, 3),
    }
    alone = command == "impute" and bool(out.suffix)
    writing: AbstractContextManager[Path] = outputs.writing_beside(out) if alone else outputs.writing(out)
    with writing as part:
        _write(part, found, out.name if alone else "", chosen, console)
        outputs.write_manifest(part, content)
        names = sorted(path.name for path in part.iterdir())
    for name in names:
        path = out / name if not alone else out if name == out.name else out.with_name(f"{out.name}.{name}")
        console.emit("item", path=str(path))
        console.data(str(path))
    console.emit("done", out=str(out), **found.about)


def _chosen(wanted: Settings) -> Chosen:
    from sfumato.data.series import choose
    from sfumato.data.tables import PARQUET, read_table

    path = wanted.path("file")
    named = {name: getattr(wanted, name) for name in ("separator", "decimal", "encoding") if getattr(wanted, name)}
    if path.suffix.lower() in PARQUET and named:
        raise typer.BadParameter(f"a Parquet file has no {next(iter(named))}: leave --{next(iter(named))} out.")
    return choose(
        read_table(path, **named),
        time=wanted.time,
        targets=wanted.targets,
        known=wanted.known,
        static=wanted.static,
        zone=wanted.zone,
        style=wanted.style,
        step=wanted.resample,
        season=wanted.season,
        horizon=wanted.horizon,
    )


def _write(part: Path, found: Forecast, name: str, chosen: Chosen, console: Console) -> None:
    """quantiles.csv, samples.npy, for an imputation the filled table, and a plot where matplotlib is."""
    import numpy as np

    header, body = found.rows(LEVELS)
    with open(part / "quantiles.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{cell:.10g}" if isinstance(cell, float) else cell for cell in row] for row in body)
    np.save(part / "samples.npy", found.samples.numpy())
    if found.table is not None:
        from sfumato.data.parquet import ArrowTable

        suffix = ".parquet" if isinstance(found.table, ArrowTable) else ".csv"
        found.filled().write(part / (name or f"filled{suffix}"))
    try:
        figure = found.plot()
    except ImportError as error:
        console.note(f"no plot: {error}")
        return
    figure.savefig(part / "plot.png", dpi=120, metadata={"Software": None})


def settings(file: Path, **fields: Any) -> Settings:
    """Settings whose file is named by its absolute path."""
    return Settings(str(file.absolute()), **fields)
