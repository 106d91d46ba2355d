"""A job's folder: job.json, and blocks/NUMBER for each block that is done.

A block's folder is written under parts/ and renamed, so that it is whole or not there; it holds its files and
record.json: {"block", "items": [first, stop], "torch", "outputs": {name: SHA-256}}. The blocks that are there are the
manifest that a rerun goes by. Shards may share one folder, or have one each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sfumato.data.files import beside
from sfumato.engines.blocks import Files, Job
from sfumato.training.runs import differences

JOB, BLOCKS, PARTS, RECORD = "job.json", "blocks", "parts", "record.json"


def open_store(folder: Path, job: Job) -> set[int]:
    """Makes the job's folder, or checks that it is this job's; returns the blocks that are done.

    Raises:
        NotADirectoryError: if it is a file.
        ValueError: if it is another job's, with what differs.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder.")
    here = json.loads(json.dumps(asdict(job)))
    if not (folder / JOB).exists():
        with beside(folder / JOB) as part:
            part.write_text(json.dumps(here, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if lines := differences(asdict(read_job(folder)), here):
        raise ValueError(f"{folder} holds another job ({', '.join(lines)}): name another folder, or its settings.")
    return done(folder)


def read_job(folder: Path) -> Job:
    """The job of a folder.

    Raises:
        FileNotFoundError: if it is no job's folder.
        ValueError: if its job.json is damaged.
    """
    path = folder / JOB
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no folder of a job: it has no {JOB}.")
    try:
        return Job(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from None


def done(folder: Path) -> set[int]:
    """The blocks that are there."""
    blocks = folder / BLOCKS
    return {int(name) for name in os.listdir(blocks) if name.isdecimal()} if blocks.is_dir() else set()


def put(folder: Path, job: Job, block: int, files: Files) -> None:
    """Stores a block, whole; where another process has stored it meanwhile, that one is kept.

    Raises:
        ValueError: for a name that is no plain name of a file.
    """
    for name in files:
        if Path(name).name != name or name == RECORD:
            raise ValueError(f"a block's file has a plain name other than {RECORD}, got {name!r}.")
    items = job.items(block)
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in files}
    record = {"block": block, "items": [items.start, items.stop], "torch": torch.__version__, "outputs": hashes}
    place, parts = path_of(folder, block), folder / PARTS / f"{block:08d}"
    part = parts / uuid.uuid4().hex  # a name of its own: two processes may be at one block where an engine tries again
    part.mkdir(parents=True)
    try:
        for name, content in {**files, RECORD: json.dumps(record, indent=1).encode()}.items():
            with open(part / name, "wb") as file:
                file.write(content)
                os.fsync(file.fileno())
        place.parent.mkdir(exist_ok=True)
        try:
            os.rename(part, place)
        except OSError:
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(parts, ignore_errors=True)  # with what a killed process left of this block


def path_of(folder: Path, block: int) -> Path:
    """Where a block is stored."""
    return folder / BLOCKS / f"{block:08d}"


def collect(folders: Sequence[Path]) -> tuple[Job, dict[str, Path], list[str]]:
    """The job, its files by name in the order of the blocks, and the versions of torch that made them.

    Every block is there exactly once, and every file is what its record says.

    Raises:
        ValueError: for a block that is missing, double or damaged, for folders of different jobs, or a name that two
            blocks use.
    """
    if not folders:
        raise ValueError("there is nothing to merge: name the folders of the shards.")
    job = read_job(folders[0])
    where: dict[int, list[Path]] = {}
    for folder in folders:
        if lines := differences(asdict(job), asdict(read_job(folder))):
            raise ValueError(f"{folders[0]} and {folder} are of different jobs ({', '.join(lines)}).")
        for block in done(folder):
            where.setdefault(block, []).append(folder)
    if missing := sorted(set(range(len(job))) - set(where)):
        raise ValueError(
            f"{len(missing)} of {len(job)} blocks are missing ({_few(missing)}): run their shards again, "
            "what is done is skipped."
        )
    if strange := sorted(set(where) - set(range(len(job)))):
        raise ValueError(f"blocks {_few(strange)} are none of the {len(job)} of the job: remove them.")
    if double := sorted(block for block, homes in where.items() if len(homes) > 1):
        homes = " and ".join(map(str, where[double[0]]))
        raise ValueError(f"{len(double)} blocks are double ({_few(double)}): block {double[0]} is in {homes}.")
    found: dict[str, Path] = {}
    versions: set[str] = set()
    for block in range(len(job)):
        place = path_of(where[block][0], block)
        record = _checked(place, job, block)
        versions.add(record["torch"])
        for name in record["outputs"]:
            if name in found:
                raise ValueError(f"{name} is in two blocks: {found[name].parent} and {place}.")
            found[name] = place / name
    return job, found, sorted(versions)


def _checked(place: Path, job: Job, block: int) -> dict[str, Any]:
    """A block's record, if its files are what it says."""
    items = job.items(block)
    try:
        record: dict[str, Any] = json.loads((place / RECORD).read_text("utf-8"))
        whole = record["block"] == block and record["items"] == [items.start, items.stop]
        hashes = {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in record["outputs"]}
        whole = whole and hashes == record["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"block {block} is damaged: remove {place} and run its shard again.")
    return record


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
