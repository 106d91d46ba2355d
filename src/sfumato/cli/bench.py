"""`sfumato bench solvers`: every solver against exact posteriors, or on photographs."""

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
    group = typer.Typer(help="Measure: solvers on worlds with known answers, and on photographs.", no_args_is_help=True)
    group.command("solvers")(solvers)
    app.add_typer(group, name="bench")


def solvers(
    world: Annotated[str, typer.Option(help="A problem whose posterior is known, or `all`.")] = "",
    images: Annotated[bool, typer.Option("--images", help="Photographs (photo12) in place of a world.")] = False,
    root: Annotated[Path | None, typer.Option(help="--images: where the packages of photo12 are unpacked.")] = None,
    task: Annotated[list[str], typer.Option("--task", help="--images: a task, several times for several; all.")] = [],  # noqa: B006
    model: Annotated[str, typer.Option(help="--images: a shipped name, a folder, or a Hub id.")] = "photo",
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
        count = _on_pictures(console, root, model, task, solver, side, steps, samples, draws, seed, out)
    else:
        if task or side or root:
            raise typer.BadParameter("--task, --side and --root belong to --images.")
        count = _on_worlds(console, world, solver, steps, samples, draws, seed, out)
    console.emit("done", count=count)


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
    samples: int | None,
    draws: int | None,
    seed: int,
    out: Path | None,
) -> int:
    from itertools import islice

    from sfumato import zoo
    from sfumato.bench import budget, pictures, tasks
    from sfumato.data.photo12 import photo12

    calls, side, samples = calls or pictures.CALLS, side or pictures.SIDE, samples or 1
    have = tasks.tasks()
    _known(keys, [setting.key for setting in budget.budgeted(calls)])
    chosen = [have[one_of(word, have, "task")] for word in names] or list(have.values())
    x0 = pictures.centre(dict(islice(photo12(root), draws or 12)), side)
    console.emit("start", command="bench solvers", tasks=[t.name for t in chosen], solvers=keys, calls=calls)
    count, last = 0, ""
    for key, record in pictures.table(
        zoo.load(name), x0, chosen, keys, calls=calls, samples=samples, seed=seed, path=out
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
