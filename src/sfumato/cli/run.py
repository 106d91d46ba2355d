"""`sfumato run MANIFEST`: a command repeated from what it wrote beside its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli import enhance, evaluate, forecast, impute, restore, sample
from sfumato.cli.console import Console
from sfumato.cli.options import Dry, Json, Quiet, Verbose

COMMANDS: dict[str, Any] = {
    "enhance": enhance,
    "evaluate": evaluate,
    "forecast": forecast,
    "impute": impute,
    "restore": restore,
    "sample": sample,
}


def command(
    manifest: Annotated[Path, typer.Argument(help="A manifest.json that sfumato wrote.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Another folder; the manifest's by default.")] = None,
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Repeat a run from its manifest: the same settings, seeds and inputs."""
    from sfumato.cli import outputs

    module, settings = read(manifest)
    module.run(settings, out or outputs.place(manifest), Console(as_json=as_json, quiet=quiet), dry=dry)


def read(path: Path) -> tuple[Any, Any]:
    """The command's module and its settings, from a manifest whose inputs are still what they were.

    Raises:
        FileNotFoundError, ValueError: if it is missing or no manifest, or an input has changed.
    """
    from pydantic import TypeAdapter, ValidationError

    from sfumato.cli.outputs import digest

    try:
        content = json.loads(path.read_text("utf-8"))
        module = COMMANDS[content["command"]]
        settings = module.Settings(**content["settings"])
        settings = TypeAdapter(module.Settings).validate_python(content["settings"])
        inputs = TypeAdapter(dict[str, str]).validate_python(content.get("inputs", {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path} is no manifest of sfumato ({where}: {first['msg']}).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no manifest of sfumato ({type(error).__name__}: {error}).") from None
    for name, known in inputs.items():
        if digest(settings.path(name)) != known:
            raise ValueError(f"{settings.path(name)} has changed since {path} was written: the run would differ.")
    return module, settings
