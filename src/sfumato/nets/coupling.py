"""RealNVP: an invertible network of affine couplings, from normal numbers to a density that is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sfumato.noise import Noise


class RealNVP(nn.Module):
    """`flow(u)`: u (B, d) to (x (B, d), log |det dx/du| (B,)); x = u before any training.

    Each coupling keeps half of the numbers and moves the others, x_b = u_b exp(s(u_a)) + h(u_a), with s held to (-2, 2)
    (ours), over halves drawn anew for each layer; a scale and a shift for each number come last. Continuous, with a
    continuous inverse: of modes apart from each other it makes one, or a bridge between them.

    Args:
        dim: d, at least 2.
        layers: couplings.
        width: of the one hidden layer in each.
        noise: draws the halves and the first weights.

    Source: Dinh et al. 2017 (1605.08803) eq. 7 and 8.
    """

    def __init__(self, dim: int, layers: int = 32, width: int = 64, *, noise: Noise) -> None:
        super().__init__()
        if dim < 2:
            raise ValueError(f"a coupling needs at least 2 numbers, got {dim}.")
        half = dim // 2
        self.orders = [noise.permutation(dim) for _ in range(layers)]
        self.inner = nn.ModuleList(nn.Linear(half, width) for _ in range(layers))
        self.outer = nn.ModuleList(nn.Linear(width, 2 * (dim - half)) for _ in range(layers))
        self.log_scale, self.shift = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        with torch.no_grad():
            for inner, outer in zip(self.inner, self.outer, strict=True):
                inner.weight.copy_(noise.normal(inner.weight) / math.sqrt(half))  # type: ignore[operator, arg-type]
                inner.bias.zero_()  # type: ignore[operator, union-attr]
                outer.weight.zero_()  # type: ignore[operator, union-attr]
                outer.bias.zero_()  # type: ignore[operator, union-attr]

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        x, total = u, self.log_scale.sum()
        for layer in range(len(self.orders)):
            b, s, h = self._coupling(layer, x)
            x = x.index_copy(1, b.to(x.device), x[:, b] * s.exp() + h)
            total = total + s.sum(1)
        return x * self.log_scale.exp() + self.shift, total.expand(len(u))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, d) to (u (B, d), log |det du/dx| (B,))."""
        u, total = (x - self.shift) * (-self.log_scale).exp(), -self.log_scale.sum()
        for layer in reversed(range(len(self.orders))):
            b, s, h = self._coupling(layer, u)
            u = u.index_copy(1, b.to(u.device), (u[:, b] - h) * (-s).exp())
            total = total - s.sum(1)
        return u, total.expand(len(x))

    def _coupling(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which numbers a layer moves, the logarithm of their scale and their shift, from those that it keeps."""
        order, half = self.orders[layer], x.shape[1] // 2
        s, h = self.outer[layer](torch.nn.functional.silu(self.inner[layer](x[:, order[:half]]))).chunk(2, 1)
        return order[half:], 2 * torch.tanh(s / 2), h
