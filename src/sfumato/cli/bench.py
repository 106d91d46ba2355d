"""`sfumato bench`: solvers against exact posteriors or on photographs; samplers against the exact flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Json, Quiet, Seed, Verbose, one_of

Solvers = Annotated[list[str], typer.Option("--solver", help="Key of a solver, several times for several; all.")]
File = Annotated[
    Path | None, typer.Option("--out", "-o", help="A JSON file that rows are added to; what it holds is not run again.")
]


def register(app: typer.Typer) -> None:
    """Adds the group `bench`."""
    group = typer.Typer(
        help="Measure: solvers and samplers on worlds with known answers, solvers on photographs.", no_args_is_help=True
    )
    group.command("solvers")(solvers)
    group.command("samplers")(samplers)
    app.add_typer(group, name="bench")


def solvers(
    world: Annotated[str, typer.Option(help="A problem whose posterior is known, or `all`.")] = "",
    images: Annotated[bool, typer.Option("--images", help="Photographs (photo12) in place of a world.")] = False,
    root: Annotated[Path | None, typer.Option(help="--images: where the packages of photo12 are unpacked.")] = None,
    task: Annotated[list[str], typer.Option("--task", help="--images: a task, several times for several; all.")] = [],  # noqa: B006
    model: Annotated[str, typer.Option(help="--images: a shipped name, a folder, or a Hub id.")] = "photo",
    papers: Annotated[
        bool, typer.Option("--papers", help="--images: every method at its paper's settings, whatever they cost.")
    ] = False,
    side: Annotated[int | None, typer.Option(min=16, help="--images: side of the central squares; 32.")] = None,
    solver: Solvers = [],  # noqa: B006
    steps: Annotated[
        int | None, typer.Option(min=2, help="Steps for each setting's own; --images: network calls, 20.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Of each measurement: 200, --images: 1.")] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Measurements: 40, --images: pictures, 12.")] = None,
    seed: Seed = 0,
    out: File = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Hold solvers against exact posteriors (--world NAME), or against each other on photographs (--images)."""
    console = Console(as_json=as_json, quiet=quiet)
    if images == bool(world):
        raise typer.BadParameter("say what to measure on: --world NAME, or --images with --root FOLDER.")
    if images:
        if root is None:
            raise typer.BadParameter("--images needs --root FOLDER, where the packages of photo12 are unpacked.")
        if papers and steps:
            raise typer.BadParameter("--papers are the papers' numbers of calls: leave --steps out.")
        count = _on_pictures(console, root, model, task, solver, side, steps, papers, samples, draws, seed, out)
    else:
        if task or side or root or papers:
            raise typer.BadParameter("--task, --side, --root and --papers belong to --images.")
        count = _on_worlds(console, world, solver, steps, samples, draws, seed, out)
    console.emit("done", count=count)


def samplers(
    world: Annotated[list[str], typer.Option("--world", help="A world, several times for several; all.")] = [],  # noqa: B006
    process: Annotated[list[str], typer.Option("--process", help="A process, several times for several; all.")] = [],  # noqa: B006
    nfe: Annotated[list[int], typer.Option("--nfe", min=2, help="Calls of the denoiser; 4 to 256.")] = [],  # noqa: B006
    starts: Annotated[int, typer.Option(min=1, help="Rows of each run.")] = 64,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A CSV file for every row.")] = None,
    figure: Annotated[Path | None, typer.Option(help="A picture of error against calls (extra plot).")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Distance of samplers to the end of the exact flow, by calls of the denoiser; the default comes first."""
    import csv

    from sfumato.bench import samplers as bench
    from sfumato.data.files import beside

    console = Console(as_json=as_json, quiet=quiet)
    names = [one_of(word, bench.worlds(), "world") for word in world] or list(bench.worlds())
    kinds = [one_of(word, bench.processes(), "process") for word in process] or list(bench.processes())
    calls = sorted(set(nfe)) or list(bench.CALLS)
    console.emit("start", command="bench samplers", worlds=names, processes=kinds, nfe=calls, starts=starts)
    table: list[dict[str, Any]] = []
    for row in bench.rows(names, kinds, calls, starts):
        table.append(row)
        console.emit("item", **row)
        if row["nfe"] == calls[0] and row["sampler"] == bench.RIVALS[0].name:
            console.data(f"{row['world']}, {row['process']}".ljust(24) + "".join(f"{n:>10}" for n in calls))
        if row["nfe"] == calls[-1]:
            line = [r["rms"] for r in table[-len(calls) :]]
            console.data(f"{row['sampler']:<24}" + "".join(f"{value:>10.5f}" for value in line))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        with beside(out) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    if figure:
        bench.draw(table, figure)
    console.emit("done", count=len(table))


def _on_worlds(
    console: Console,
    world: str,
    keys: list[str],
    steps: int | None,
    samples: int | None,
    draws: int | None,
    seed: int,
    out: Path | None,
) -> int:
    from sfumato.bench import exact, worlds
    from sfumato.bench.settings import settings

    have = worlds.instances()
    _known(keys, [exact.FLOOR, *(setting.key for setting in settings())])
    chosen = list(have) if world == "all" else [one_of(world, [*have, "all"], "world")]
    samples, draws = samples or exact.SAMPLES, draws or exact.DRAWS
    console.emit("start", command="bench solvers", worlds=chosen, solvers=keys, draws=draws, samples=samples)
    count, last = 0, ""
    for key, record in exact.table(
        (have[name] for name in chosen), keys, draws=draws, samples=samples, steps=steps, seed=seed, path=out
    ):
        if record["world"] != last:
            last = record["world"]
            _head(console, have[last].title, WORLD)
        _show(console, key, record, WORLD)
        count += 1
    console.note("seen, hidden: variance over the posterior's where A sees and where not. Exact samples are the floor.")
    return count


def _on_pictures(
    console: Console,
    root: Path,
    name: str,
    names: list[str],
    keys: list[str],
    side: int | None,
    calls: int | None,
    papers: bool,
    samples: int | None,
    draws: int | None,
    seed: int,
    out: Path | None,
) -> int:
    from itertools import islice

    from sfumato import zoo
    from sfumato.bench import budget, pictures, published, tasks
    from sfumato.data.photo12 import photo12

    calls, side, samples = calls or pictures.CALLS, side or pictures.SIDE, samples or 1
    have = tasks.tasks()
    _known(keys, [setting.key for setting in (published.published() if papers else budget.budgeted(calls))])
    chosen = [have[one_of(word, have, "task")] for word in names] or list(have.values())
    x0 = pictures.centre(dict(islice(photo12(root), draws or 12)), side)
    console.emit("start", command="bench solvers", tasks=[t.name for t in chosen], solvers=keys, calls=calls)
    count, last = 0, ""
    for key, record in pictures.table(
        zoo.load(name), x0, chosen, keys, calls=calls, papers=papers, samples=samples, seed=seed, path=out
    ):
        if record["task"] != last:
            last = record["task"]
            _head(console, have[last].title, PICTURE)
        _show(console, key, record, PICTURE)
        count += 1
    return count


WORLD = ("mean", "seen", "hidden", "sliced", "weights", "half", "most")
PICTURE = ("psnr", "ssim", "gmsd", "misfit", "half", "most", "nfe", "seconds", "megabytes")


def _known(keys: list[str], have: list[str]) -> None:
    for key in keys:
        one_of(key, sorted(set(have)), "solver here")


def _head(console: Console, title: str, columns: tuple[str, ...]) -> None:
    console.data(f"{title:<44} " + " ".join(f"{name:>9}" for name in columns))


def _show(console: Console, key: str, record: dict[str, Any], columns: tuple[str, ...]) -> None:
    console.emit("item", key=key, **record)
    row = record["row"]
    cells = (row.get(name) for name in columns)
    values = (cell["value"] if isinstance(cell, dict) else cell for cell in cells)
    console.data(
        f"{row['name'][:44]:<44} "
        + (row["failed"] if "failed" in row else " ".join(f"{'':>9}" if v is None else f"{v:>9.3f}" for v in values))
    )
