"""The `sfumato` command: its subcommands, and the exit code of every failure.

A subcommand is a file of this folder that holds a function `command` (or `register(app)`, for one with subcommands of
its own). Files are registered where they exist; none imports torch before it runs, so that help and `list` are quick.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

NAMES = (
    "demo", "restore", "enhance", "forecast", "impute", "sample", "merge", "train", "finetune", "average", "evaluate",
    "convert", "run", "bench", "list", "show", "cite", "doctor",
)  # fmt: skip
CLICK: type[Exception] = typer.BadParameter.__mro__[2]  # type: ignore[assignment]  # ClickException, wherever it lives

# What went wrong to exit code: 0 ok, 1 failure, 2 usage (typer's own), 3 bad input, 4 missing extra, 130 interrupted.
FAILURES: tuple[tuple[type[BaseException], int], ...] = (
    (KeyboardInterrupt, 130),
    (ImportError, 4),
    (FileNotFoundError, 3),
    (IsADirectoryError, 3),
    (NotADirectoryError, 3),
    (FloatingPointError, 1),
    (ValueError, 3),
)


class Commands(TyperGroup):
    """A group whose failures are one sentence on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        words_given = tuple(ctx.args)  # before the subcommand takes them
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, CLICK):
            raise
        except BrokenPipeError:
            # The reader has gone (`sfumato list | head`): what is still buffered must not fail a second time at exit.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except BaseException as error:
            code = next((code for kind, code in FAILURES if isinstance(error, kind)), 1)
            if any(flag in words_given for flag in ("-v", "--verbose")):
                traceback.print_exc()
            words = " ".join(str(error).split()) or ("interrupted" if code == 130 else type(error).__name__)
            known = any(isinstance(error, kind) for kind, _ in FAILURES) or isinstance(error, OSError)
            typer.echo(f"error: {words if known else f'{type(error).__name__}: {words}'}", err=True)
            raise typer.Exit(code) from None


app = typer.Typer(
    name="sfumato",
    cls=Commands,
    help="Diffusion models: restore a picture, draw samples, train, and look up every method.",
    epilog="Exit codes: 0 ok, 1 failure, 2 usage, 3 bad input, 4 missing extra, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from sfumato import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Diffusion models: restore a picture, draw samples, train, and look up every method."""


for _name in NAMES:
    if importlib.util.find_spec(f"sfumato.cli.{_name}"):
        _module = importlib.import_module(f"sfumato.cli.{_name}")
        if hasattr(_module, "register"):
            _module.register(app)
        else:
            app.command(_name)(_module.command)


def run() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    run()
