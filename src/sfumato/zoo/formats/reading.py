"""Reading files of weights. Nothing in them is run, unless the user trusts where they come from."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sfumato.zoo.formats import snapshot


def read(path: Path, *, trust: bool = False) -> Any:
    """What a file holds: a state dict, or a mapping with one inside.

    Args:
        trust: pickles that hold more than tensors and plain values may be read, which can run any code in them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a damaged file, or one that is not read without `trust`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there." if not path.exists() else f"{path} is a folder: name one file.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes).")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from None
    if path.suffix == ".pkl" and not zipfile.is_zipfile(path):  # what torch.save writes is a zip
        return snapshot.read(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise ValueError(f"{path} is damaged or no file of PyTorch ({_line(error)}).") from None
        raise ValueError(
            f"{path} is a pickle with more than weights in it, or no file of PyTorch, and reading it could run code: "
            f"not read ({_line(error)}). If you trust where it comes from: --trust."
        ) from None
    except Exception as error:  # what garbage makes an unpickler raise is anything
        raise ValueError(f"{path} cannot be read ({_line(error)}).") from None


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) < 160 else f"{words[:157]}..."
