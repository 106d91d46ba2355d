"""What a command says: data on stdout (JSON lines on request), notes and progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


class Console:
    """Speaks for one command.

    Args:
        as_json: stdout carries JSON lines {"event": start | step | item | warning | done, ...} and nothing else.
        quiet: no notes and no progress; warnings stay.
        silent: nothing at all: another process speaks for this one.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, silent: bool = False) -> None:
        self.as_json, self.quiet, self.silent = as_json, quiet, silent

    def emit(self, event: str, **fields: Any) -> None:
        """A JSON line, where JSON was asked for."""
        if self.as_json:
            typer.echo(json.dumps({"event": event, **fields}, ensure_ascii=False))

    def data(self, text: str) -> None:
        """A line of the result, where JSON was not asked for."""
        if not self.as_json and not self.silent:
            typer.echo(text)

    def note(self, text: str) -> None:
        """A line for a person."""
        if not self.quiet:
            typer.echo(text, err=True)

    def warn(self, text: str) -> None:
        """A line on what the user can act on."""
        self.emit("warning", message=text)
        if not self.silent:
            typer.echo(f"warning: {text}", err=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar on stderr: call what it yields with the steps done and the steps in all."""
        from tqdm import tqdm

        with tqdm(desc=what, unit="step", disable=self.quiet, leave=False) as bar:

            def tick(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)
                self.emit("step", done=done, total=total)

            yield tick
