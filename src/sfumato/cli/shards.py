"""A command in blocks: `--shard I/N`, or a rank of torchrun; `sfumato merge` joins what they leave in the folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from sfumato.cli.console import Console

if TYPE_CHECKING:
    from sfumato.engines import Job
    from sfumato.engines.serial import Shard


class Work(Protocol):
    """What runs in blocks."""

    @property
    def wanted(self) -> Any: ...
    @property
    def command(self) -> str: ...
    def __call__(self) -> Callable[[range], dict[str, bytes]]: ...


def asked(word: str) -> Shard | None:
    """The part that `--shard` and torchrun say, together; None for the whole.

    Raises:
        typer.BadParameter: for a word that is no shard.
    """
    if not word and int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return None
    from sfumato.engines.serial import Shard

    try:
        return Shard.parse(word or "1/1").of_rank()
    except ValueError as error:
        raise typer.BadParameter(f"--shard: {error}") from None


def device(name: str) -> str:
    """The device of this process: under torchrun "cuda" is the card of LOCAL_RANK."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if name == "cuda" and local is not None else name


def job(work: Work, count: int, size: int) -> Job:
    """The job of a command. What kind of device it asks for is part of it, which card is not."""
    from sfumato.engines import Job

    wanted = replace(work.wanted, device=work.wanted.device.partition(":")[0])
    return Job(work.command, asdict(wanted), count, size, getattr(work, "inputs", {}))


def run(work: Work, count: int, size: int, shard: Shard, out: Path, console: Console) -> None:
    """Runs a shard in `out`."""
    from sfumato import engines

    whole = job(work, count, size)
    blocks = len(shard.blocks(whole))
    console.emit("start", command=work.command, settings=whole.settings, shard=f"{shard.index}/{shard.count}")
    made = 0
    with console.progress(f"{work.command} {shard.index}/{shard.count}") as tick:
        for n, (_, new) in enumerate(engines.run(whole, work, out, shard), 1):
            made += new
            tick(n, blocks)
    console.note(f"shard {shard.index}/{shard.count}: {made} blocks made, {blocks - made} were there. When all are "
                 f"done: sfumato merge {out} -o FOLDER")  # fmt: skip
    console.data(str(out))
    console.emit("done", out=str(out), made=made, skipped=blocks - made)
