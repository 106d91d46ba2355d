"""Network snapshots of NVlabs, pickles with source code inside: the weights are taken out, none of the code is run.

The unpickler knows tensors, arrays and plain containers. Every network in the file becomes a record of its class's
name and its state; anything else stops the reading.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Record(dict[str, Any]):
    """What is kept of an object: its state. `class_name` is that of its class."""

    class_name = ""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class Ignored:
    """In place of numbers and arrays of NumPy, which are settings and no weights."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read(path: Path) -> dict[str, Any]:
    """{"ema": state dict, "class": name of the network's class}.

    Raises:
        ValueError: for a pickle that is no snapshot, or holds what is not known to be harmless.
    """
    try:
        with path.open("rb") as file:
            content = _Reader(file).load()
        network = content["ema"]
        return {"ema": dict(_tensors(network)), "class": network.class_name}
    except Exception as error:  # what garbage makes an unpickler raise is anything
        words = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{path} is no network snapshot that can be read without running code: not read ({words})."
        ) from None


def _object(meta: dict[str, Any]) -> Record:
    """In place of NVlabs' function, which runs the source code in `meta`."""
    found = Record(meta["state"])
    found.class_name = str(meta["class_name"])
    return found


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride)


KNOWN = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _object,
    ("dnnlib.util", "EasyDict"): Record,
    ("torch.nn.modules.container", "ModuleDict"): Record,
    ("torch.nn.modules.container", "ModuleList"): Record,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("numpy", "dtype"): Ignored,
    ("numpy", "ndarray"): Ignored,
    **{
        (f"numpy.{core}.multiarray", name): Ignored for core in ("core", "_core") for name in ("scalar", "_reconstruct")
    },
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def _tensors(module: Any, prefix: str = "") -> Any:
    """(name, tensor) of a module's state, as its state dict has them."""
    for group in ("_parameters", "_buffers"):
        for name, value in module[group].items():
            if value is not None:
                yield prefix + name, value
    for name, child in module["_modules"].items():
        if child is not None:
            yield from _tensors(child, f"{prefix}{name}.")
