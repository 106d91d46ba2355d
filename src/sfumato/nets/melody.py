"""A transformer over the bars of a melody, told the noise level by scales and shifts at its end."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.sinusoids import sinusoids


class BarTransformer(nn.Module):
    """net(u, level): the noise of u (B, code, bars), the level alpha (B,).

    Each bar to `width` numbers with the sinusoids of its place; `layers` pre-norm layers of attention over the bars;
    `hidden` numbers, and two residual blocks on each bar, moved by scales and shifts from sinusoids of 5000 alpha.

    Source: Mittal et al. 2021 (2103.16091) section 3.4 and public code.
    """

    def __init__(
        self, code: int, width: int = 128, layers: int = 6, heads: int = 8, feed: int = 2048, hidden: int = 2048
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(code, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, feed, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(hidden)])
        self.wide = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(Moved(hidden) for _ in range(2))
        self.leave = nn.Linear(hidden, code)

    def forward(self, u: Tensor, level: Tensor, cond: None = None) -> Tensor:
        h = self.enter(u.transpose(1, 2))
        h = h + sinusoids(torch.arange(h.shape[1], device=h.device), h.shape[2]).to(h)
        for layer in self.layers:
            h = layer(h)
        h = self.wide(self.norms[0](h))
        emb = sinusoids(5000.0 * level.reshape(-1).expand(len(u)), 128).to(h)
        for block in self.blocks:
            h = block(h, emb)
        out: Tensor = self.leave(self.norms[1](h))
        return out.transpose(1, 2)


class Moved(nn.Module):
    """h + two layers, each after a norm that the level scales and shifts and a SiLU; h (B, bars, width)."""

    def __init__(self, width: int, emb: int = 128) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(emb, 4 * emb), nn.SiLU(), nn.Linear(4 * emb, 4 * width))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        parts, x = self.level(emb)[:, None].chunk(4, 2), h
        for (scale, shift), norm, layer in zip(list(pairwise(parts))[::2], self.norms, self.layers, strict=True):
            x = layer(F.silu(torch.addcmul(shift, norm(x), 1.0 + scale)))
        return h + x
