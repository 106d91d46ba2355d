"""How much memory the tensors of a restoration take, found before it runs.

Tensors alone: on a CPU the allocator and the work space of convolutions add to it, up to as much again where the
network is differentiated (`benchmarks/large.py`).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfumato.codecs import Codec, Latent
from sfumato.denoisers import Denoiser

PROBE = 64  # (ours) side of the picture that the network is tried on: its activations grow with the area
STATES = 8  # (ours) tensors of the size of the state that a solver holds at once: DDRM at 12 Mpx, `benchmarks/large.py`


class Live(TorchDispatchMode):
    """Counts the bytes of tensors born inside it and alive.

    Attributes:
        now: alive at this moment.
        peak: most that were alive at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self._held and key not in given:
                    self._held.add(key)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._free, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _free(self, key: int, size: int) -> None:
        self._held.discard(key)
        self.now -= size


def per_number(denoiser: Denoiser, event: Sequence[int], *, gradient: bool) -> float:
    """Bytes that a call of the denoiser takes for each number of its input, with a backward pass or without.

    Measured on one picture of at most 64 x 64: activations grow with the area, so the figure serves any size.
    """
    kept = len(event) - 2 if len(event) > 1 else len(event) - 1
    shape = (1, *event[:kept], *(min(n, PROBE) for n in event[kept:]))
    return _peak(lambda x: denoiser(x, 0.5).mean, shape, denoiser, gradient) / math.prod(shape)


def decoding(codec: Codec, event: Sequence[int], *, gradient: bool) -> int:
    """Bytes that the decoder of a latent codec takes for one row of data of this shape; 0 for a codec without one."""
    if not isinstance(codec, Latent):
        return 0
    small = tuple(min(n, PROBE) for n in event[1:])
    shape = tuple(codec.latent((event[0], *small)))
    live = _peak(codec.decode, (1, *shape), codec.autoencoder, gradient)
    return round(live * math.prod(event[1:]) / math.prod(small))


def _peak(f: Callable[[Tensor], Tensor], shape: Sequence[int], net: nn.Module, gradient: bool) -> int:
    """Bytes alive at most inside a call of f on zeros of this shape, and on the way back."""
    parameter = next(iter(net.parameters()), None)
    device = None if parameter is None else parameter.device
    with torch.set_grad_enabled(gradient):
        x = torch.zeros(tuple(shape), device=device, requires_grad=gradient)
        with Live() as live:
            out = f(x)
            if gradient:
                torch.autograd.grad(out.sum(), x)
    return live.peak


def estimate(
    denoiser: Denoiser, event: Sequence[int], *, rows: int, at_once: int, window: Sequence[int], gradient: bool
) -> int:
    """Bytes that a run takes beside the weights.

    Args:
        event: shape of one x_0 in model space.
        rows: of the batch; the solver holds `STATES` tensors of their size.
        at_once: rows, or windows of rows, whose activations are alive together.
        window: shape of what the network sees of one row.
        gradient: whether the solver differentiates the network.
    """
    network = per_number(denoiser, event, gradient=gradient) * at_once * math.prod(window)
    return round(network + STATES * 4 * rows * math.prod(event))
