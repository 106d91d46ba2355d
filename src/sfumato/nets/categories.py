"""Networks on categories: int64 states in, logits out; levels of brightness through a U-Net, text in a transformer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import Clock


class Levels(nn.Module):
    """Levels of pictures: (B, C, *size) int64 in 0 .. levels - 1, or `levels` for a mask, to (B, C, *size, levels).

    The inner network sees u = 2 x / (levels - 1) - 1; with a mask, u = 0 there and a second set of channels says where.
    Its output h gives the logits [x_t = k] + h_k, or a logistic law cut to the levels, of location tanh(u + h_1) and
    log scale h_2 - 2: fewer numbers, and neighbours share their mass.

    Args:
        inner: `net(u, c_noise, cond)`, C (or 2 C, with a mask) channels to C * levels (or 2 C, logistic).
        levels: K.
        masked: whether there is a mask.
        logistic: the second form.

    Source: Austin et al. 2021 (2107.03006) appendix B.1 and public code.
    """

    def __init__(self, inner: nn.Module, levels: int, *, masked: bool = False, logistic: bool = True) -> None:
        super().__init__()
        self.inner, self.levels, self.masked, self.logistic = inner, levels, masked, logistic

    def forward(self, x: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        lost = x == self.levels
        u = (x.to(c_noise) * (2.0 / (self.levels - 1)) - 1.0).masked_fill(lost, 0.0)
        h = self.inner(torch.cat([u, lost.to(u)], 1) if self.masked else u, c_noise, cond)
        if self.logistic:
            location, log_scale = h.chunk(2, 1)
            return truncated_logistic(torch.tanh(u + location), log_scale - 2.0, self.levels)
        h = h.unflatten(1, (x.shape[1], self.levels)).movedim(2, -1)
        return h + F.one_hot(x, self.levels + 1)[..., : self.levels].to(h)


def truncated_logistic(location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log(F(k + 1/2) - F(k - 1/2)) up to a constant, (..., levels): a logistic law cut to the levels -1, ..., 1.

    Source: Austin et al. 2021 (2107.03006) appendix B.1, public code (its 1e-6 keeps the logarithm finite).
    """
    width = 2.0 / (levels - 1)
    centre = torch.linspace(-1.0, 1.0, levels, dtype=location.dtype, device=location.device)
    gap, inverse = centre - location.unsqueeze(-1), torch.exp(-log_scale).unsqueeze(-1)
    low, high = F.logsigmoid(inverse * (gap - 0.5 * width)), F.logsigmoid(inverse * (gap + 0.5 * width))
    return high + torch.log1p(-torch.exp(low - high) + 1e-6)


class Transformer(nn.Module):
    """Sequences of symbols in both directions, any length: (B, L) int64 to (B, L, out).

    Pre-norm blocks, rotary positions, the clock added to every position; a mask is one more symbol. Places count by
    their distance alone, as suits windows of a running text: nothing tells the first place from the others.

    Args:
        states: symbols that can come in.
        out: symbols that can be said.
        width, depth, heads: of the blocks.
        dropout: in training.
    """

    def __init__(
        self, states: int, out: int, width: int = 256, depth: int = 6, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"the width is a multiple of twice the heads, got {width} and {heads}.")
        self.symbol, self.clock = nn.Embedding(states, width), Clock(width)
        self.blocks = nn.ModuleList(Layer(width, heads, dropout) for _ in range(depth))
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, out)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        h = self.symbol(x) + self.clock(c_noise).unsqueeze(1)
        turn = rotation(x.shape[1], self.blocks[0].size, h) if len(self.blocks) else None  # type: ignore[arg-type]
        for block in self.blocks:
            h = block(h, turn)
        return self.leave(self.norm(h))


class Layer(nn.Module):
    """Attention and a feed-forward network, each added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, turn: Tensor) -> Tensor:
        b, n, w = h.shape
        q, k, v = self.qkv(self.norm1(h)).reshape(b, n, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotated(q, turn), rotated(k, turn), v)
        h = h + self.dropout(self.out(mixed.transpose(1, 2).reshape(b, n, w)))
        return h + self.dropout(self.feed(self.norm2(h)))


def rotation(length: int, size: int, like: Tensor) -> Tensor:
    """Angles of rotary positions, (length, size / 2). Source: Su et al. 2021 (2104.09864) eq. 15."""
    rate = torch.exp(torch.arange(0, size, 2, device=like.device) * (-math.log(10_000.0) / size))
    return torch.outer(torch.arange(length, device=like.device), rate).to(like)


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """x (..., length, size) with its two halves turned as pairs by the angles."""
    a, b = x.chunk(2, -1)
    cos, sin = turn.cos(), turn.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
