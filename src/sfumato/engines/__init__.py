"""Engines: one pure function over fixed blocks of items, run by one process, by shards, by torchrun, Dask or Ray.

The unit of work is a block: the same items run together however many machines there are, so that every engine writes
the same bytes. A block is stored whole or not at all, and one that is there is not computed again.
"""

from __future__ import annotations

from sfumato.engines.blocks import Files, Job, Load
from sfumato.engines.clusters import Cluster
from sfumato.engines.serial import Shard, run
from sfumato.engines.store import collect, open_store

__all__ = ["Cluster", "Files", "Job", "Load", "Shard", "collect", "open_store", "run"]
