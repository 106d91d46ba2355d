"""Processes that train together: each takes its rows of every batch, and gradients are averaged over them.

What is drawn is keyed by (seed, step, row of the batch), never by the rank, so that the weights are those of one
process but for the order in which gradients are summed. `torchrun` sets what `joined` reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.training import sharding


@dataclass(frozen=True)
class Ranks:
    """This process's place among `world` that train together; alone by default.

    Args:
        rank: from 0; 0 alone writes.
        sharded: each process holds its share of the weights, their averages and moments (FSDP2), not all of them.
    """

    rank: int = 0
    world: int = 1
    sharded: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def rows(self, batch: int) -> range:
        """The rows of a batch that are this process's: consecutive, as many as the others' but for one.

        Raises:
            ValueError: for a batch of fewer rows than there are processes.
        """
        if batch < self.world:
            raise ValueError(f"a batch of {batch} items cannot be divided among {self.world} processes: a larger one.")
        return range(self.rank * batch // self.world, (self.rank + 1) * batch // self.world)

    def parts(self, batch: int, accumulate: int = 1) -> list[range]:
        """This process's rows of a batch in `accumulate` parts, one after the other.

        Raises:
            ValueError: if there are fewer rows than parts.
        """
        rows = self.rows(batch)
        if not 1 <= accumulate <= len(rows):
            raise ValueError(f"{len(rows)} rows of a process cannot be cut into {accumulate} parts: 1 to {len(rows)}.")
        cuts = [rows.start + k * len(rows) // accumulate for k in range(accumulate + 1)]
        return [range(first, last) for first, last in pairwise(cuts)]

    def summing(self, losses: Callable[..., Tensor], *, last: bool) -> AbstractContextManager[None]:
        """The context of a part of a step: gradients are exchanged at the last one alone."""
        hold = getattr(losses, "no_sync", None)
        return nullcontext() if last or hold is None else hold()

    def parallel(self, objective: nn.Module) -> Callable[..., Tensor]:
        """The objective, whose gradients are means over the processes; the first one's weights become everyone's."""
        if self.world == 1 or self.sharded:
            return objective
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(objective, broadcast_buffers=False)

    def shard(self, module: nn.Module) -> None:
        """Divides the module's weights among the processes, in place, where that is asked for."""
        if self.sharded and self.world > 1:
            sharding.shard(module)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over the processes, the same in all of them."""
        if self.world == 1:
            return x
        total = x.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.world

    def any(self, flag: bool, device: torch.device | str = "cpu") -> bool:
        """Whether it is so in one of the processes at least: what all must agree on, such as when to stop."""
        return (self.world > 1 and float(self.mean(torch.tensor(float(flag), device=device))) > 0.0) or flag

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.world > 1:
            torch.distributed.barrier()


@contextmanager
def joined(device: torch.device | str = "cpu", *, sharded: bool = False, **options: Any) -> Iterator[Ranks]:
    """The place of this process among those of torchrun (RANK, WORLD_SIZE); alone where there are no others.

    Args:
        device: where tensors are: gloo joins CPUs, NCCL joins NVIDIA cards.
        sharded: divide weights, averages and moments among the processes.
        options: of `torch.distributed.init_process_group`.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Ranks()
        return
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    torch.distributed.init_process_group("nccl" if where.type == "cuda" else "gloo", **options)
    try:
        yield Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), sharded)
    finally:
        torch.distributed.destroy_process_group()
