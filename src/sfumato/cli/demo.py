"""`sfumato demo`: a photograph damaged in six ways and restored, in about three minutes on a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and its pictures.")] = Path("demo"),
    model: Annotated[str, typer.Option("--model", help="A shipped model of photographs, or a folder.")] = "photo",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples for each task.")] = 4,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Network calls for each sample.")] = 12,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Damage a photograph in six ways, restore it, and compare with classical methods."""
    from tqdm import tqdm

    from sfumato.data.photo12 import fixture
    from sfumato.demo.page import table
    from sfumato.demo.run import run
    from sfumato.demo.tasks import tasks
    from sfumato.demo.write import write
    from sfumato.zoo import load

    loaded, picture, outcomes = load(model), fixture(), []
    for task in tasks(steps):
        with tqdm(desc=f"{task.title:28}", total=task.steps, disable=quiet) as bar:

            def tick(done: int, total: int, bar: Any = bar) -> None:
                bar.update(done - bar.n)

            outcomes.append(run(loaded, picture, task, samples=samples, seed=seed, progress=tick))
    typer.echo(table(outcomes))
    if any(score.psnr is None for outcome in outcomes for score in outcome.scores):
        typer.echo("-: needs scikit-image (pip install 'sfumato[baselines]')", err=True)
    index = write(out, loaded, picture, outcomes, name=model, samples=samples, seed=seed)
    typer.echo(f"\nopen {index}")
