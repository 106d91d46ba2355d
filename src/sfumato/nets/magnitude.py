"""Layers that keep the magnitude of what they pass: unit root mean square in, unit root mean square out.

No layer has a bias, no group normalisation is needed, and activations cannot grow with depth. Weights are used as
w / |w| per output unit, and `normalize_weights` overwrites the stored ones by that before each training step: without
it they grow, and the effective learning rate falls unseen. Weight decay must then be 0.

Source: Karras et al. 2024 (2312.02696) sections 2.2 to 2.4 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d}
EPS = 1e-4  # of the paper: added to norms


def unit(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x divided by its root mean square over `axes` (plus 1e-4). Source: Karras et al. 2024, public code."""
    norm = x.square().mean(axes, keepdim=True).sqrt()
    return x / (norm + EPS)


def mp_silu(x: Tensor) -> Tensor:
    """silu(x) / 0.596, 0.596 the root mean square of silu on N(0, 1). Source: Karras et al. 2024 eq. 81."""
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """((1 - share) a + share b) / sqrt((1 - share)^2 + share^2). Source: Karras et al. 2024 eq. 88."""
    return a.lerp(b, share) / math.hypot(1.0 - share, share)


def mp_cat(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """Both beside each other along the channels, each contributing its share of the squares whatever its width.

        C ( (1 - share) / sqrt(Na) a,  share / sqrt(Nb) b ),   C = sqrt((Na + Nb) / ((1 - share)^2 + share^2))

    Source: Karras et al. 2024 eq. 103.
    """
    Na, Nb = a.shape[1], b.shape[1]
    C = math.sqrt((Na + Nb) / ((1.0 - share) ** 2 + share**2))
    return torch.cat([a * (C * (1.0 - share) / math.sqrt(Na)), b * (C * share / math.sqrt(Nb))], 1)


class MPFourier(nn.Module):
    """sqrt(2) cos(2 pi (f c + phi)), f ~ N(0, 1) and phi uniform, frozen: (B,) to (B, width).

    Source: Karras et al. 2024 eq. 75.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", nn.init.normal_(torch.empty(width), std=2.0 * math.pi))
        self.register_buffer("phases", nn.init.uniform_(torch.empty(width), 0.0, 2.0 * math.pi))

    def forward(self, c_noise: Tensor) -> Tensor:
        return math.sqrt(2.0) * (c_noise.unsqueeze(-1) * self.frequencies.to(c_noise) + self.phases.to(c_noise)).cos()


class MPLayer(nn.Module):
    """A linear layer (dims 0) or a convolution of odd kernels, w / |w| per output unit, times `gain`.

    Weights are stored with unit root mean square per output unit. Source: Karras et al. 2024 eq. 47 and 66.
    """

    def __init__(self, entering: int, leaving: int, kernel: int = 1, dims: int = 0) -> None:
        super().__init__()
        self.dims = dims
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(leaving, entering, *[kernel] * dims)))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        w = unit(self.weight.float(), tuple(range(1, self.weight.ndim)))
        w = (w * (gain / math.sqrt(w[0].numel()))).to(x.dtype)
        if self.dims == 0:
            return F.linear(x, w)
        return CONV[self.dims](x, w, padding=w.shape[-1] // 2)

    @torch.no_grad()
    def normalize(self) -> None:
        """Overwrites the weights by their normalised selves."""
        self.weight.copy_(unit(self.weight, tuple(range(1, self.weight.ndim))))


def normalize_weights(module: nn.Module) -> None:
    """Forced weight normalisation of every `MPLayer` inside: before each training step, never in between.

    Source: Karras et al. 2024 (2312.02696) section 2.3 and algorithm 1.
    """
    for layer in module.modules():
        if isinstance(layer, MPLayer):
            layer.normalize()
