"""One process, one shard of the blocks: alone, one of n that know nothing of each other, or a rank of torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sfumato.engines import store
from sfumato.engines.blocks import Job, Load


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count`: every count-th block, so that shards are of the same size to one block.

    Raises:
        ValueError: if index is not in 1 .. count.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f"a shard is i/n with i from 1 to n, got {self.index}/{self.count}.")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, word: str) -> Shard:
        """The shard that a word such as "3/8" says.

        Raises:
            ValueError: if it is none.
        """
        index, slash, count = word.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"a shard is i/n, such as 3/8, got {word!r}.")
        return cls(int(index), int(count))

    def of_rank(self, environment: Mapping[str, str] = os.environ) -> Shard:
        """This rank's part of the shard, from RANK and WORLD_SIZE as torchrun sets them; the shard itself without."""
        world = int(environment.get("WORLD_SIZE", 1))
        rank = int(environment["RANK"]) if world > 1 else 0
        return Shard((self.index - 1) * world + rank + 1, self.count * world)

    def blocks(self, job: Job) -> range:
        """The shard's blocks."""
        return range(self.index - 1, len(job), self.count)

    def run(self, job: Job, load: Load, folder: Path) -> Iterator[tuple[int, bool]]:
        """Runs the shard's blocks in `folder`: the function `run`."""
        return run(job, load, folder, self)


def run(job: Job, load: Load, folder: Path, shard: Shard | None = None) -> Iterator[tuple[int, bool]]:
    """Runs a shard's blocks in `folder` and yields (block, whether it was computed now) for each.

    Blocks that are there are passed over; nothing is loaded where all are. Under torchrun give
    `Shard().of_rank()`: ranks divide the blocks and need not speak to each other.
    """
    there = store.open_store(folder, job)
    work = None
    for block in (shard or Shard()).blocks(job):
        if new := block not in there:
            work = work or load()
            store.put(folder, job, block, work(job.items(block)))
        yield block, new
