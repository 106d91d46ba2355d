"""Weights divided among processes (FSDP2): each holds its share of every tensor, and gathers a block while it runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def shard(module: nn.Module) -> None:
    """Divides a module's parameters among the processes, in place: each block by itself, then what is left.

    The first process's weights become everyone's. A block is an entry of an `nn.ModuleList` that can be called.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP2 takes no channels_last
    for value in (*module.parameters(), *module.buffers()):
        torch.distributed.broadcast(value.detach(), 0)
    where = next(module.parameters()).device.type
    options: dict[str, Any] = {
        "mesh": init_device_mesh(where, (torch.distributed.get_world_size(),)),
        # The outermost too, so that outside of its call a module holds its share and no more.
        "reshard_after_forward": True,
    }
    blocks = [child for part in module.modules() if isinstance(part, nn.ModuleList) for child in part]
    for block in reversed(blocks):
        if not isinstance(block, nn.ModuleList):
            fully_shard(block, **options)
    fully_shard(module, **options)


def tensors(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(parameters, buffers) of a module, each once, in an order that a copy of it shares; of what is divided, this
    process's share.

    One walk without names: `parameters()` and `buffers()` take eight times as long, which counts once a step.
    """
    parameters: dict[int, Tensor] = {}
    buffers: dict[int, Tensor] = {}
    seen: set[int] = set()
    parts = [module]
    while parts:
        part = parts.pop()
        if id(part) not in seen:
            seen.add(id(part))
            parameters |= {id(p): p for p in part._parameters.values() if p is not None}
            buffers |= {id(b): b for b in part._buffers.values() if b is not None}
            parts += [child for child in part._modules.values() if child is not None]
    return [p.to_local() if hasattr(p, "to_local") else p for p in parameters.values()], [*buffers.values()]


def whole(value: Tensor) -> Tensor:
    """A tensor that may be divided, as one: all processes must ask for it."""
    full = getattr(value, "full_tensor", None)
    return value if full is None else full()


def like(value: Tensor, other: Tensor) -> Tensor:
    """A whole tensor divided as `other` is; itself where that is not divided."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(other, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)
