"""What a format finds in a file, and the state dicts inside what was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
PICTURES = {"kind": "affine", "scale": 0.5, "shift": 0.5}  # data in [0, 1], model space in [-1, 1]
AVERAGED = ("ema", "ema_model", "model_ema", "state_dict", "model", "net")  # where codes keep a state dict
# Buffers of a diffusion that are kept beside the network's weights, by how their names begin.
BUFFERS = ("betas", "alphas_cumprod", "posterior_", "sqrt_", "log_one_minus_", "loss_weight")


@dataclass(frozen=True)
class Found:
    """A file of a known code.

    Attributes:
        format: its name, for people.
        recipe: the key of what it becomes.
        fields: of the recipe, as keys and shapes say them, or the settings of a release with these shapes.
        weights: under the names of our network, which `prefix` goes before.
        unsaid: fields that the file cannot say, with the code's own default, as an example.
        left: keys that have no place in our network.
        release: the name of the release that the shapes are those of, or "".
        prefix: where the network is in the denoiser.
    """

    format: str
    recipe: str
    fields: dict[str, Any]
    weights: State
    unsaid: dict[str, Any] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    release: str = ""
    prefix: str = "net."


def states(content: Any) -> Iterator[State]:
    """The state dicts in what a file holds, averaged weights first, without the `module.` of parallel training."""
    if not isinstance(content, Mapping):
        return
    for name in AVERAGED:
        yield from states(content.get(name))
    tensors = {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
    if tensors and len(tensors) == len(content):
        yield tensors


def count(state: Mapping[str, Tensor], name: str) -> int:
    """Entries of the list of modules `name`, those without parameters inside it too."""
    at = name.count(".") + 1
    return 1 + max((int(key.split(".")[at]) for key in state if key.startswith(f"{name}.")), default=0)


def table(state: Mapping[str, Tensor], *, root: bool = False) -> dict[str, Any]:
    """`first`, `last` and `steps` of linear betas, else the `betas` as they are, and `steps`; {} where none are kept.

    Args:
        root: linear in their square root.
    """
    if "betas" not in state:
        return {}
    betas = state["betas"].double()
    values = betas.sqrt() if root else betas
    if torch.allclose(values, torch.linspace(float(values[0]), float(values[-1]), len(values), dtype=values.dtype)):
        ends = (float(f"{float(value):.6g}") for value in (betas[0], betas[-1]))  # as they were before float32
        return {**dict(zip(("first", "last"), ends, strict=True)), "steps": len(betas)}
    return {"betas": tuple(betas.tolist()), "steps": len(betas)}
