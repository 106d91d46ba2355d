"""LoRA: a trained network whose layers get a correction of low rank, and nothing else is trained.

    W' = W + (alpha / r) B A,   A (r, in), B (out, r), B = 0 at the start,

for every linear layer and convolution (whose kernel is taken as a matrix with a row for each entry of its first axis).
The layer runs once, with W', so that the first output is the base model's to the bit and a merged layer is the same
layer. Source: Hu et al. 2022 (2106.09685) section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)


class Adapter(nn.Module):
    """A layer with a correction of low rank; its own weights get no gradient.

    Args:
        base: one of `LAYERS`.
        rank: r, at most the smaller side of the weight taken as a matrix.
        alpha: of the scale alpha / r; r if not given, so that the scale is 1.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float | None = None) -> None:
        super().__init__()
        weight = base.weight
        assert isinstance(weight, Tensor)
        self.base = base.requires_grad_(False)
        self.rank, self.scale = rank, (rank if alpha is None else alpha) / rank
        rows, columns = weight.shape[0], weight[0].numel()
        self.down = nn.Parameter(weight.new_empty(rank, columns))  # A
        self.up = nn.Parameter(weight.new_zeros(rows, rank))  # B
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """W', for those who look at it."""
        kernel = self.base.weight
        assert isinstance(kernel, Tensor)
        return kernel + (self.scale * (self.up @ self.down)).reshape(kernel.shape)

    @property
    def bias(self) -> Tensor | None:
        """That of the layer."""
        found = self.base.bias
        assert found is None or isinstance(found, Tensor)
        return found

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = functional_call(self.base, {"weight": self.weight}, (x,))
        return out

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The layer with W' for its weight."""
        kernel = self.base.weight
        assert isinstance(kernel, Tensor)
        kernel.copy_(self.weight)
        return self.base


def adapt(module: nn.Module, rank: int, alpha: float | None = None) -> int:
    """Gives every layer of a module an `Adapter`, in place, freezes the rest, and returns the number of adapters.

    A layer that has fewer rows or columns than the rank takes the largest rank that it can.

    Raises:
        ValueError: for a rank below 1, or a module without such layers.
    """
    if rank < 1:
        raise ValueError(f"the rank of an adapter is at least 1, got {rank}.")
    module.requires_grad_(False)
    found = list(_layers(module))
    if not found:
        raise ValueError(f"{type(module).__name__} has no linear layer and no convolution to adapt: train it in full.")
    for parent, name, layer in found:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        most = min(weight.shape[0], weight[0].numel())
        scale = 1.0 if alpha is None else alpha / rank
        own = min(rank, most)
        setattr(parent, name, Adapter(layer, own, scale * own))
    return len(found)


def merge(module: nn.Module) -> None:
    """Puts the merged layers back in the places of their adapters."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Adapter):
                setattr(parent, name, child.merged())


def is_adapter(name: str) -> bool:
    """Whether a tensor of that name is an adapter's: what a checkpoint of a LoRA run holds."""
    return name.rpartition(".")[2] in ("up", "down")


def _layers(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) in LAYERS:  # not a subclass: what it does with its weight is its own
                yield parent, name, child
