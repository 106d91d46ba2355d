"""The workers of Ray or Dask as one part of a job: of a cluster that is running, or started here for the job alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sfumato.engines import on_dask, on_ray
from sfumato.engines.blocks import Job, Load

NAMES = ("ray", "dask")


@dataclass(frozen=True)
class Cluster:
    """All blocks of a job, by `workers` processes of the engine `name`.

    Args:
        name: "ray" or "dask".
        address: of a running cluster; "" for one on this machine, which ends with the job (Ray: unless RAY_ADDRESS
            names another). A running cluster of Dask has the workers that it has.
        workers: processes that load the model.
        gpus: cards that each of them holds, of Ray alone: workers of Dask are started with theirs.

    Raises:
        ValueError: for another engine, or fewer than one worker.
    """

    name: str
    address: str = ""
    workers: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"an engine is one of {', '.join(NAMES)}, got {self.name!r}.")
        if self.workers < 1:
            raise ValueError(f"a job needs 1 worker at least, got {self.workers}.")

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, word: str, workers: int = 1, gpus: float = 0.0) -> Cluster:
        """The workers that a word such as "ray", "ray:auto" or "dask:tcp://scheduler:8786" says.

        Raises:
            ValueError: if it names no engine.
        """
        name, _, address = word.partition(":")
        return cls(name, address, workers, gpus)

    def blocks(self, job: Job) -> range:
        """All of them."""
        return range(len(job))

    def run(self, job: Job, load: Load, folder: Path) -> Iterator[tuple[int, bool]]:
        """Runs the job in `folder` and yields (block, whether it was computed now), as they end.

        Raises:
            ImportError: without the extra of the engine.
            OSError: if there is no cluster at the address.
        """
        return (self._ray if self.name == "ray" else self._dask)(job, load, folder.absolute())

    def _ray(self, job: Job, load: Load, folder: Path) -> Iterator[tuple[int, bool]]:
        on_ray.needed()
        import ray  # type: ignore[import-not-found]

        own = not ray.is_initialized()
        if own:
            ray.init(self.address or None, log_to_driver=False)
        try:
            yield from on_ray.run(job, load, folder, actors=self.workers, gpus=self.gpus)
        finally:
            if own:
                ray.shutdown()

    def _dask(self, job: Job, load: Load, folder: Path) -> Iterator[tuple[int, bool]]:
        on_dask.needed()
        from distributed import Client  # type: ignore[import-not-found]

        # One thread each: a worker's threads would take turns with its one model.
        here = {"n_workers": self.workers, "threads_per_worker": 1, "dashboard_address": None}
        with Client(self.address) if self.address else Client(**here) as client:
            yield from on_dask.run(job, load, folder, client)
