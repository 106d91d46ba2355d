"""`sfumato doctor`: what this machine and this installation have, and what is broken."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata

import typer

from sfumato.cli.ailments import ailments
from sfumato.cli.console import Console
from sfumato.cli.options import Json, Quiet, Verbose

# The modules of each extra: it is there when all of them are.
EXTRAS = {
    "train": ("accelerate", "tensorboard"),
    "hub": ("huggingface_hub", "datasets"),
    "diffusers": ("diffusers", "transformers"),
    "audio": ("soundfile", "pystoi"),
    "plot": ("matplotlib",),
    "tables": ("pandas", "pyarrow"),
    "medical": ("nibabel", "pydicom", "scipy"),
    "video": ("imageio", "av"),
    "baselines": ("skimage", "scipy"),
    "ode": ("torchdiffeq",),
    "ot": ("ot",),
    "web": ("nicegui",),
    "ray": ("ray",),
    "dask": ("distributed",),
    "zarr": ("zarr",),
}
CORE = ("torch", "numpy", "pillow", "safetensors", "tqdm", "pyyaml", "pydantic", "typer")


def command(as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Report versions, threads, devices, extras, the shipped models, and what is broken (exit code 1)."""
    console = Console(as_json=as_json, quiet=quiet)
    for name, value in report().items():
        console.emit("item", name=name, value=value)
        console.data(f"{name:<10} {'  '.join(value) or 'none'}")
    found = ailments(CORE)
    for what, remedy in found:
        console.emit("warning", what=what, remedy=remedy)
        console.data(f"{'problem':<10} {what}: {remedy}")
    console.emit("done", problems=len(found))
    if found:
        raise typer.Exit(1)


def versions() -> dict[str, str]:
    """Versions of Python, of this library and of what it needs."""
    from sfumato import __version__

    found = {"python": platform.python_version(), "sfumato": __version__}
    for name in CORE:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def report() -> dict[str, list[str]]:
    """Lines of the report by name."""
    import torch

    from sfumato import recipes, zoo

    devices = ["cpu"]
    devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    missing = {extra: [m for m in modules if importlib.util.find_spec(m) is None] for extra, modules in EXTRAS.items()}
    return {
        "versions": [f"{name} {version}" for name, version in versions().items()],
        "system": [platform.platform(), f"{torch.get_num_threads()} threads"],
        "devices": devices,
        "extras": [extra for extra, lacks in missing.items() if not lacks],
        "missing": [f"{extra} (pip install 'sfumato[{extra}]')" for extra, lacks in missing.items() if lacks],
        "models": zoo.shipped(),
        "methods": [f"{len(recipes.names())} keys"],
    }
