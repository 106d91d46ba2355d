"""A job: so many items, cut into blocks that never change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Files = dict[str, bytes]  # what a block comes to: the content of its files, by name
Load = Callable[[], Callable[[range], Files]]  # loads what is dear, once a process, and returns the function of a block


@dataclass(frozen=True)
class Job:
    """Items 0 .. count - 1 in blocks of `size`, the last one shorter if need be.

    Args:
        command: what is done.
        settings: everything that decides the result, as JSON holds it; two shards belong together if it is the same.
        count: items in all.
        size: items of a block: what runs together, whoever runs it.
        inputs: what decides the result beside the settings, such as a digest of the names of the files.

    Raises:
        ValueError: for a size below 1 or a count below 0.
    """

    command: str
    settings: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    size: int = 1
    inputs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 0 or self.size < 1:
            raise ValueError(f"a job has at least 0 items in blocks of at least 1, got {self.count} and {self.size}.")

    def __len__(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.size)

    def items(self, block: int) -> range:
        """The items of a block.

        Raises:
            IndexError: if there is no such block.
        """
        if not 0 <= block < len(self):
            raise IndexError(f"the job has {len(self)} blocks, there is no block {block}.")
        return range(block * self.size, min((block + 1) * self.size, self.count))
