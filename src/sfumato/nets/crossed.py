"""Attention over positions and then over a context, as in latent diffusion."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Crossed(nn.Module):
    """A transformer block on the positions of a map, (B, width, H, W), which also attends to a context (B, N, context).

    Parameters carry the names of the public code. Source: Rombach et al. 2022 (2112.10752) section 3.3, appendix E.2.1.
    """

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([_Block(width, heads, context)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            h = block(h, context)
        out: Tensor = x + self.proj_out(h.transpose(1, 2).reshape(x.shape))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = _Attention(width, width, heads), _Attention(width, context, heads)
        self.ff = _Gated(width)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        own = self.norm1(h)
        h = h + self.attn1(own, own)
        h = h + self.attn2(self.norm2(h), context)
        out: Tensor = h + self.ff(self.norm3(h))
        return out


class _Attention(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, width, bias=False) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        parts = (self.to_q(h), self.to_k(context), self.to_v(context))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        out: Tensor = self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class _Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        enter = nn.Module()
        enter.proj = nn.Linear(width, 8 * width)
        self.net = nn.ModuleList([enter, nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, h: Tensor) -> Tensor:
        h, gate = self.net[0].proj(h).chunk(2, 2)  # type: ignore[operator, union-attr]
        out: Tensor = self.net[2](h * F.gelu(gate))
        return out
