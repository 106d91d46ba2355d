"""Blocks by the actors of Ray Data (extra `ray`); the folder is one that all of them reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfumato.engines import store
from sfumato.engines.blocks import Job, Load


def run(
    job: Job, load: Load, folder: Path, *, actors: int = 1, gpus: float = 0.0, cpus: float = 1.0
) -> Iterator[tuple[int, bool]]:
    """Runs a job's blocks on `actors` actors and yields (block, whether it was computed now), as they end.

    Args:
        load: picklable; each actor loads once, when it starts.
        actors: processes, anywhere on the cluster that `ray.init` has joined.
        gpus, cpus: what each of them holds.

    Raises:
        ImportError: without the extra.
    """
    needed()
    import ray  # type: ignore[import-not-found]

    there = store.open_store(folder, job)
    yield from ((block, False) for block in sorted(there))
    todo = [{"block": block} for block in range(len(job)) if block not in there]
    if not todo:
        return
    blocks = ray.data.from_items(todo, override_num_blocks=len(todo))
    made = blocks.map(
        Actor,  # type: ignore[arg-type]  # Ray's own stubs know functions only
        fn_constructor_args=(job, load, folder.absolute()),
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_gpus=gpus,
        num_cpus=cpus,
    )
    for row in made.iter_rows():
        yield int(row["block"]), True


def needed() -> None:
    """Looks for the extra.

    Raises:
        ImportError: without it.
    """
    try:
        import ray.data  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise ImportError("this engine needs Ray: pip install 'sfumato[ray]'.") from error


class Actor:
    """One process of the pool: the model is loaded when it is made."""

    def __init__(self, job: Job, load: Load, folder: Path) -> None:
        self.job, self.folder, self.work = job, folder, load()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Computes and stores the block of a row."""
        block = int(row["block"])
        store.put(self.folder, self.job, block, self.work(self.job.items(block)))
        return row
