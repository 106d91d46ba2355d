"""A command in blocks: `--shard I/N`, a rank of torchrun, or `--engine ray|dask`; `sfumato merge` joins what they leave
in the folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from sfumato.cli.console import Console

if TYPE_CHECKING:
    from sfumato.engines import Cluster, Job, Shard


class Work(Protocol):
    """What runs in blocks."""

    @property
    def wanted(self) -> Any: ...
    @property
    def command(self) -> str: ...
    def __call__(self) -> Callable[[range], dict[str, bytes]]: ...


def asked(word: str, engine: str = "", workers: int = 1, device: str = "cpu") -> Shard | Cluster | None:
    """The part that `--shard` and torchrun say, together, or the workers of `--engine`; None for the whole, here.

    Raises:
        typer.BadParameter: for a word that is no shard or no engine, or for both.
    """
    ranks = int(os.environ.get("WORLD_SIZE", 1)) > 1
    if engine and (word or ranks):
        raise typer.BadParameter("--engine divides the blocks itself: leave --shard and torchrun out.")
    if not (word or ranks or engine):
        return None
    from sfumato.engines import Cluster, Shard

    try:
        if engine:
            return Cluster.parse(engine, workers, gpus=float(device.startswith("cuda")))
        return Shard.parse(word or "1/1").of_rank()
    except ValueError as error:
        raise typer.BadParameter(f"--{'engine' if engine else 'shard'}: {error}") from None


def device(name: str) -> str:
    """The device of this process: under torchrun "cuda" is the card of LOCAL_RANK."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if name == "cuda" and local is not None else name


def job(work: Work, count: int, size: int) -> Job:
    """The job of a command. What kind of device it asks for is part of it, which card is not."""
    from sfumato.engines import Job

    wanted = replace(work.wanted, device=work.wanted.device.partition(":")[0])
    return Job(work.command, asdict(wanted), count, size, getattr(work, "inputs", {}))


def run(work: Work, count: int, size: int, part: Shard | Cluster, out: Path, console: Console) -> None:
    """Runs a shard in `out`, or all of it by a cluster, and then joined."""
    from sfumato.cli import merge
    from sfumato.engines import Cluster

    whole = job(work, count, size)
    blocks, name = len(part.blocks(whole)), str(part)
    console.emit("start", command=work.command, settings=whole.settings, shard=name)
    made = 0
    with console.progress(f"{work.command} {name}") as tick:
        for n, (_, new) in enumerate(part.run(whole, work, out), 1):
            made += new
            tick(n, blocks)
    alone = isinstance(part, Cluster)
    said = f"{name}: {made} blocks made, {blocks - made} were there."
    console.note(said if alone else f"shard {said} When all are done: sfumato merge {out} -o FOLDER")
    if alone:
        merge.run([out], out, console)
        return
    console.data(str(out))
    console.emit("done", out=str(out), made=made, skipped=blocks - made)
