"""Blocks on the workers of a Dask cluster (extra `dask`); the folder is one that all of them reach."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sfumato.engines import store
from sfumato.engines.blocks import Files, Job, Load

_loaded: dict[Load, Callable[[range], Files]] = {}  # of this worker's process
_lock = threading.Lock()


def run(job: Job, load: Load, folder: Path, client: Any) -> Iterator[tuple[int, bool]]:
    """Runs a job's blocks on the workers of `client` and yields (block, whether it was computed now), as they end.

    Args:
        load: picklable and hashable, a frozen dataclass for instance: it is loaded once in each worker's process.
        client: a `distributed.Client`; a worker that dies gives its blocks to the others.

    Raises:
        ImportError: without the extra.
        Exception: what a block raised, once it has been seen.
    """
    needed()
    from distributed import as_completed  # type: ignore[import-not-found]

    there = store.open_store(folder, job)
    yield from ((block, False) for block in sorted(there))
    todo = [block for block in range(len(job)) if block not in there]
    # pure=False: a task's name is its own, so that a block which was lost is computed again.
    futures = client.map(_block, todo, job=job, load=load, folder=folder, pure=False)
    for future in as_completed(futures):
        yield future.result(), True


def needed() -> None:
    """Looks for the extra.

    Raises:
        ImportError: without it.
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError("this engine needs Dask: pip install 'sfumato[dask]'.") from error


def _block(block: int, job: Job, load: Load, folder: Path) -> int:
    """One block, on a worker, whose threads share what is loaded and take turns with it."""
    with _lock:
        if load not in _loaded:
            _loaded[load] = load()
        store.put(folder, job, block, _loaded[load](job.items(block)))
    return block
