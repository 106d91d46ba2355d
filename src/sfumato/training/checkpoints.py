"""Checkpoints: one safetensors file with weights, averages, optimizer state and a JSON header; nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.data.files import beside
from sfumato.training import sharding


class Followers(Protocol):
    """Averages as a checkpoint sees them, `Ema` and `Averages`: modules by name, and how often they were updated."""

    updates: int

    def modules(self) -> dict[str, nn.Module]: ...


Only = Callable[[str], bool]  # of the names of a module's tensors, those that are stored
Gathered = tuple[dict[str, Tensor], dict[str, Any]]


def save(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Followers | None,
    info: dict[str, Any],
    *,
    only: Only | None = None,
) -> None:
    """Writes a checkpoint beside `path` and renames it, so that a crash or a full disk keeps the one before.

    Args:
        only: which tensors of the module and its averages are stored; all if not given.

    Raises:
        OSError: if it cannot be written.
    """
    write(path, gathered(module, optimizer, ema, info, only=only))


def gathered(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Followers | None,
    info: dict[str, Any],
    *,
    only: Only | None = None,
) -> Gathered:
    """What a checkpoint holds, on the CPU, whole: where weights are sharded, all processes must call this."""
    tensors: dict[str, Tensor] = {}
    for prefix, part in _parts(module, ema).items():
        tensors |= {f"{prefix}.{k}": v for k, v in part.state_dict().items() if only is None or only(k)}
    state = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    header = {
        "info": info,
        "optimizer": {"plain": plain, "groups": state["param_groups"]},
        "ema_updates": ema.updates if ema else 0,
    }
    return {k: sharding.whole(v.detach()).cpu().contiguous().clone() for k, v in tensors.items()}, header


def write(path: Path, held: Gathered) -> None:
    """Writes what `gathered` gave, beside `path` and renamed.

    Raises:
        OSError: if it cannot be written.
    """
    with beside(path) as part:
        try:
            save_file(held[0], part, metadata={"sfumato": json.dumps(held[1])})
        except SafetensorError as error:
            raise OSError(
                f"{path} cannot be written ({error}): is the disk full? The checkpoint before it is kept."
            ) from error


def load(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Followers | None,
    *,
    only: Only | None = None,
) -> dict[str, Any]:
    """Restores what `save` wrote, in place, and returns its `info`.

    Raises:
        ValueError: if the file is no checkpoint, is truncated, or belongs to another network.
    """
    header, tensors = _read(path, weights=True)
    for prefix, part in _parts(module, ema).items():
        _fill(path, part, _part(tensors, f"{prefix}."), only)
    if ema is not None:
        ema.updates = header["ema_updates"]
    state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in header["optimizer"]["plain"].items()}
    for key, value in _part(tensors, "optimizer.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": header["optimizer"]["groups"]})
    _lay_out(optimizer)
    found: dict[str, Any] = header["info"]
    return found


def info(path: Path) -> dict[str, Any]:
    """The `info` of a checkpoint, without its weights.

    Raises:
        ValueError: if the file is no checkpoint, or is truncated.
    """
    found: dict[str, Any] = _read(path, weights=False)[0]["info"]
    return found


def _read(path: Path, *, weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["sfumato"])
            return header, {key: file.get_tensor(key) for key in (file.keys() if weights else ())}
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is no checkpoint of sfumato, or is truncated ({error}): take another.") from error


def _parts(module: nn.Module, ema: Followers | None) -> dict[str, nn.Module]:
    return {"module": module, **(ema.modules() if ema else {})}


def _fill(path: Path, module: nn.Module, state: dict[str, Tensor], only: Only | None) -> None:
    """Loads the stored tensors of a module, which must be all of those that are stored."""
    there = {k: v for k, v in module.state_dict().items() if only is None or only(k)}
    try:
        if there.keys() != state.keys():
            lacking, unknown = sorted(there.keys() - state.keys()), sorted(state.keys() - there.keys())
            raise RuntimeError(f"it lacks {lacking}, and has {unknown}")
        module.load_state_dict({k: sharding.like(v, there[k]) for k, v in state.items()}, strict=only is None)
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another network: {error}") from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Gives the moments the strides of their parameters: a fused optimizer walks all of them in the order of memory."""
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value = sharding.like(value, parameter)
                slots[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
