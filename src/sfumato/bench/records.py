"""Rows as a JSON file, {"KEY": [{"world": ..., "row": {...}}, ...]}, that grows row by row: a cut run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Records = dict[str, list[dict[str, Any]]]


def read(path: Path | None) -> Records:
    """What a file holds so far; nothing where there is none.

    Raises:
        ValueError: if it is another file than such a table.
    """
    if path is None or not path.exists():
        return {}
    try:
        held = json.loads(path.read_text("utf-8"))
    except ValueError:
        held = None
    if not isinstance(held, dict) or not all(isinstance(rows, list) for rows in held.values()):
        raise ValueError(f"{path} is there and holds no table of rows: name another file.")
    return held


def add(records: Records, key: str, record: dict[str, Any], path: Path | None) -> None:
    """Appends a record under its key, and writes the file anew, beside and renamed."""
    records.setdefault(key, []).append(record)
    if path is None:
        return
    lines = (
        f"{json.dumps(key)}: [\n  " + ",\n  ".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n ]"
        for key, rows in sorted(records.items())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text("{\n " + ",\n ".join(lines) + "\n}\n", "utf-8")
    os.replace(part, path)


def find(records: Records, key: str, **wanted: Any) -> dict[str, Any] | None:
    """The record of a key whose fields, or whose row's fields, are the wanted ones."""
    for record in records.get(key, []):
        flat = {**record["row"], **record}
        if all(flat.get(name) == value for name, value in wanted.items()):
            return record
    return None


def flat(records: Records) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, record) of every row."""
    for key, rows in records.items():
        yield from ((key, record) for record in rows)
