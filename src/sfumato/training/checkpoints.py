"""Checkpoints: one safetensors file with weights, averages, optimizer state and a JSON header; nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.data.files import beside
from sfumato.training.ema import Ema


def save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None, info: dict[str, Any]
) -> None:
    """Writes a checkpoint beside `path` and renames it, so that a crash or a full disk keeps the one before.

    Raises:
        OSError: if it cannot be written.
    """
    tensors: dict[str, Tensor] = {f"module.{k}": v for k, v in module.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{k}": v for k, v in ema.average.state_dict().items()}
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
    whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with beside(path) as part:
        try:
            save_file(whole, part, metadata={"sfumato": json.dumps(header)})
        except SafetensorError as error:
            raise OSError(
                f"{path} cannot be written ({error}): is the disk full? The checkpoint before it is kept."
            ) from error


def load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None) -> dict[str, Any]:
    """Restores what `save` wrote, in place, and returns its `info`.

    Raises:
        ValueError: if the file is no checkpoint, is truncated, or belongs to another network.
    """
    header, tensors = _read(path, weights=True)
    try:
        module.load_state_dict(_part(tensors, "module."))
        if ema is not None:
            ema.average.load_state_dict(_part(tensors, "ema."))
            ema.updates = header["ema_updates"]
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another network: {error}") from error
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


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Gives the moments the strides of their parameters: a fused optimizer walks all of them in the order of memory."""
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
