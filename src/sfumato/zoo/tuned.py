"""Runs that begin with another model's weights, and those of which only adapters (LoRA) are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sfumato.training import lora
from sfumato.zoo import files

FILES = ("model.safetensors", "checkpoint.safetensors")


def origin(name: str | Path) -> dict[str, str]:
    """What a config says of the model that a run begins with: its name (of a folder the whole path) and its weights'
    SHA-256."""
    folder = files.find(name)
    return {"model": called(name), "sha256": _hash(folder)}


def called(name: str | Path) -> str:
    """A model's name as a config keeps it: the whole path of a folder, else the name."""
    own = str(name) not in files.shipped() and Path(name).is_dir()
    return str(Path(name).absolute()) if own else str(name)


def weights(base: Mapping[str, str]) -> dict[str, Tensor]:
    """The denoiser's weights of the model that `origin` named.

    Raises:
        FileNotFoundError: if it is gone.
        ValueError: if it is another one now.
    """
    from sfumato.zoo.model import load

    try:
        folder = files.find(base["model"])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"this run begins with the model {base['model']}, which is gone. {error}") from None
    if _hash(folder) != base["sha256"]:
        raise ValueError(f"the weights of {base['model']} are not those that this run began with: put them back.")
    return load(folder).denoiser.state_dict()


def read(folder: Path, config: Mapping[str, Any], denoiser: nn.Module) -> dict[str, Any]:
    """Loads a LoRA run: the base model's weights and the averaged adapters, merged, in place; returns the config of the
    merged model.

    Raises:
        FileNotFoundError, ValueError: if the base or the adapters are gone, damaged, or do not fit.
    """
    denoiser.load_state_dict(weights(config["base"]))
    lora.adapt(denoiser, int(config["lora"]))
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no weights yet: no checkpoint.safetensors.")
    try:
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if key.startswith(files.EMA)]  # noqa: SIM118
            state = {key.removeprefix(files.EMA): file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from None
    wanted = {key for key in denoiser.state_dict() if lora.is_adapter(key)}
    if wanted != state.keys():
        raise ValueError(f"{path} holds {len(state)} tensors of adapters, its config asks for {len(wanted)} others.")
    denoiser.load_state_dict(state, strict=False)
    lora.merge(denoiser)
    return {key: value for key, value in config.items() if key != "lora"}


def _hash(folder: Path) -> str:
    for name in FILES:
        if (folder / name).exists():
            with open(folder / name, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    raise FileNotFoundError(f"{folder} has no weights: neither {' nor '.join(FILES)}.")
