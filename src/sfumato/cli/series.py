"""What `forecast` and `impute` share: a table in, samples out."""

from __future__ import annotations

import csv
import inspect
import time
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Dry, Json, Quiet, Seed, Verbose

if TYPE_CHECKING:
    from sfumato.data.series import Chosen
    from sfumato.zoo.forecast import Forecast

PLOTS = 6  # of as many series
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

# What both commands take: the field of the settings, how it is said on the command line, its default.
DECLARED: dict[str, tuple[Any, Any]] = {
    "file": (
        Annotated[Path, typer.Argument(help="The table: CSV, or Parquet (extra `tables`).")],
        inspect.Parameter.empty,
    ),
    "time": (Annotated[str, typer.Option("--time", help="Column of the times; none: the rows are a step apart.")], ""),
    "id": (
        Annotated[str, typer.Option("--id", help="Column that names the series of a row, where there are many.")],
        "",
    ),
    "targets": (
        Annotated[
            list[str], typer.Option("--target", help="Column to model; repeated. All other numbers if not given.")
        ],
        [],
    ),
    "known": (
        Annotated[list[str], typer.Option("--known", help="Column known at all times, also ahead; repeated.")],
        [],
    ),
    "static": (
        Annotated[list[str], typer.Option("--static", help="Column that holds one number in each series; repeated.")],
        [],
    ),
    "zone": (
        Annotated[
            str, typer.Option("--zone", help="Time zone of the stamps, such as Europe/London, for daylight saving.")
        ],
        "",
    ),
    "style": (Annotated[str, typer.Option("--time-style", help="Of the stamps, strptime's: '%d.%m.%Y %H:%M'.")], ""),
    "resample": (
        Annotated[str, typer.Option("--resample", help="Put the rows on an even grid first: 15min, 1h, 1d, 1month.")],
        "",
    ),
    "season": (
        Annotated[int, typer.Option("--season", min=0, help="Rows in a season, where no stamps tell the calendar.")],
        0,
    ),
    "separator": (Annotated[str, typer.Option("--separator", help="Between cells; found out if not given.")], ""),
    "decimal": (Annotated[str, typer.Option("--decimal", help="Decimal sign, . or ,; found out if not given.")], ""),
    "encoding": (Annotated[str, typer.Option("--encoding", help="Of the file; UTF-8 if not given.")], ""),
    "model": (
        Annotated[
            str, typer.Option("--model", help="A trained model of any series (`series`, a folder): nothing is learned.")
        ],
        "",
    ),
    "minutes": (
        Annotated[
            float,
            typer.Option("--minutes", min=0.0, max=60.0, help="How long a network may learn; 0: closed form alone."),
        ],
        1.0,
    ),
    "steps": (
        Annotated[int | None, typer.Option("--steps", min=0, help="Steps of learning, in the place of --minutes.")],
        None,
    ),
    "seed": (Seed, 0),
    "as_json": (Json, False),
    "dry": (Dry, False),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
}


def declared(name: str, text: str, **own: tuple[Any, Any]) -> Callable[..., None]:
    """The command `name` with the options of `DECLARED` and its own, `out` among them; `text` is its help."""
    fields = {**DECLARED, **own}

    def command(**given: Any) -> None:
        out, dry = given.pop("out"), given.pop("dry")
        console = Console(as_json=given.pop("as_json"), quiet=given.pop("quiet"))
        given.pop("verbose")
        file = given.pop("file")
        run(name, Settings(str(file.absolute()), **given), out, console, dry=dry)

    command.__doc__ = text
    command.__annotations__ = {field: kind for field, (kind, _) in fields.items()}
    made = [
        inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for field, (kind, default) in fields.items()
    ]
    command.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    return command


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result; the file by its absolute path."""

    file: str
    time: str = ""
    id: str = ""
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
    model: str = ""
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

    began = time.perf_counter()
    asked = _asked(command, wanted)
    rows = sum(len(one.series) - one.ahead for one in asked.chosen)
    gaps = sum(int(one.series.values[:, : len(one.series) - one.ahead].isnan().sum()) for one in asked.chosen)
    targets = asked.chosen[0].targets
    many = f"{len(asked.chosen)} series, " if wanted.id else ""
    what = f"{', '.join(targets)}: {many}{rows} rows, {gaps} numbers missing"
    console.emit("start", command=command, settings=asdict(wanted), targets=targets, rows=rows, missing=gaps)
    if dry:
        console.data(f"would {command} {what}, into {out}")
        console.emit("done", dry_run=True)
        return
    console.note(what)
    if not all(one.stamps.part(0, len(one.series) - one.ahead).even for one in asked.chosen):
        console.warn("the rows are not evenly spaced: they are taken at their times; --resample puts them on a grid.")
    found = _predicted(command, wanted, asked, console)
    about = found[0].about
    content = {
        "command": command,
        # The steps that were run: a run from the manifest takes as many, however fast the machine.
        "settings": asdict(replace(wanted, steps=about.get("steps", 0))),
        "streams": "Seeds.keyed(seed, ((series, window), sample))",
        "inputs": {"file": outputs.digest(wanted.path("file"))},
        "model": about,
        "seconds": round(time.perf_counter() - began, 3),
    }
    alone = command == "impute" and bool(out.suffix)
    writing: AbstractContextManager[Path] = outputs.writing_beside(out) if alone else outputs.writing(out)
    with writing as part:
        _write(part, found, out.name if alone else "", asked, console)
        outputs.write_manifest(part, content)
        names = sorted(path.name for path in part.iterdir())
    for name in names:
        path = out / name if not alone else out if name == out.name else out.with_name(f"{out.name}.{name}")
        console.emit("item", path=str(path))
        console.data(str(path))
    console.emit("done", out=str(out), **about)


@dataclass(frozen=True)
class Asked:
    """What is asked: the table, its series by name ("" for one alone), and the rows of each in the table."""

    table: Any
    names: tuple[str, ...]
    chosen: list[Chosen]
    places: list[Any]


def _asked(command: str, wanted: Settings) -> Asked:
    from sfumato.data.series import choose
    from sfumato.data.tables import PARQUET, read_table, split_by

    path = wanted.path("file")
    named = {name: getattr(wanted, name) for name in ("separator", "decimal", "encoding") if getattr(wanted, name)}
    if path.suffix.lower() in PARQUET and named:
        raise typer.BadParameter(f"a Parquet file has no {next(iter(named))}: leave --{next(iter(named))} out.")
    if wanted.id and wanted.resample and command == "impute":
        raise typer.BadParameter("--resample makes new rows, which --id cannot put back: resample the table first.")
    if wanted.model and (wanted.known or wanted.static):
        raise typer.BadParameter("a trained model sees the target alone: leave --known and --static, or --model, out.")
    columns: dict[str, Any] = {
        "time": wanted.time,
        "targets": wanted.targets,
        "known": wanted.known,
        "static": wanted.static,
        "zone": wanted.zone,
        "style": wanted.style,
        "step": wanted.resample,
        "season": wanted.season,
        "horizon": wanted.horizon,
    }
    table = read_table(path, **named)
    if not wanted.id:
        return Asked(table, ("",), [choose(table, **columns)], [None])
    parts = split_by(table, wanted.id)
    chosen = [choose(part, **columns) for part, _ in parts.values()]
    return Asked(table, tuple(parts), chosen, [rows for _, rows in parts.values()])


def _predicted(command: str, wanted: Settings, asked: Asked, console: Console) -> list[Forecast]:
    """By a shipped model, or by one that is learned here."""
    if wanted.model:
        from sfumato.zoo.fill import predict_with
        from sfumato.zoo.model import load

        with console.progress(f"{command}: sampling") as tick:
            model = load(wanted.model)
            return [
                predict_with(model, one, samples=wanted.samples, seed=wanted.seed, item=i, progress=tick)
                for i, one in enumerate(asked.chosen)
            ]
    from sfumato.zoo.tables import predict_all

    with console.progress(f"{command}: learning") as tick:
        return predict_all(
            asked.chosen,
            samples=wanted.samples,
            minutes=wanted.minutes,
            steps=wanted.steps,
            seed=wanted.seed,
            progress=tick,
        )


def _write(part: Path, found: list[Forecast], name: str, asked: Asked, console: Console) -> None:
    """quantiles.csv, the samples, for an imputation the filled table, and plots where matplotlib is."""
    import numpy as np

    many = asked.names != ("",)
    with open(part / "quantiles.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for i, (label, one) in enumerate(zip(asked.names, found, strict=True)):
            header, body = one.rows(LEVELS)
            if i == 0:
                writer.writerow([*["series"] * many, *header])
            for row in body:
                cells = [f"{cell:.10g}" if isinstance(cell, float) else cell for cell in row]
                writer.writerow([*[label] * many, *cells])
    if many:
        # As np.savez does, but the same bytes every time, and for any name: "file" is one of its own arguments.
        with zipfile.ZipFile(part / "samples.npz", "w") as archive:
            for label, one in zip(asked.names, found, strict=True):
                with archive.open(zipfile.ZipInfo(f"{label}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, one.samples.numpy(), allow_pickle=False)
    else:
        np.save(part / "samples.npy", found[0].samples.numpy())
    if found[0].table is not None:
        from sfumato.data.parquet import ArrowTable

        suffix = ".parquet" if isinstance(asked.table, ArrowTable) else ".csv"
        filled = _joined(asked, found) if many else found[0].filled()
        filled.write(part / (name or f"filled{suffix}"))
    for i, one in enumerate(found[:PLOTS]):
        try:
            figure = one.plot()
        except ImportError as error:
            console.note(f"no plot: {error}")
            return
        figure.savefig(part / (f"plot-{i + 1}.png" if many else "plot.png"), dpi=120, metadata={"Software": None})


def _joined(asked: Asked, found: list[Forecast]) -> Any:
    """The whole table, filled."""
    import numpy as np

    values = {target: np.full(len(asked.table), np.nan) for target in asked.chosen[0].targets}
    for rows, one in zip(asked.places, found, strict=True):
        for c, target in enumerate(one.targets):
            values[target][rows] = one.median[:, c].numpy()
    return asked.table.filled(values)
