"""A network for tables of series (B, C, L): transformers over time and over series, gated as in WaveNet (CSDI)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, gelu, pad, relu

from sfumato.nets.steps import StepEmbedding


class TwoAxis(nn.Module):
    """net(u, step, cond) of CSDI: two signals in, M x and (1 - M) u, side information beside them in every block.

    A token is one number of one series, or `patch` consecutive ones (ours), or, with `joint`, the patch of all series
    at once (ours): then there is no attention between series, and the cost no longer grows with their number. Side
    information: sinusoids of time (128), an embedding of the series (16), M, covariates and statics.

    Args:
        channels: C, the series. Without `joint` x may hold some of them only, numbered by "series" (B, C') of the
            condition.
        covariates, statics: F and S, numbers known at all times and numbers known once, beside the series.
        steps: N; the step embedding is a table of N rows, read between rows by linear interpolation.
        prior: the network sees u alone, all of it, and no M.
        linear: attention at a cost linear in the length (ours: the form of Katharopoulos et al. 2020, 2006.16236).

    Source: Tashiro et al. 2021 (2107.03502) appendix E.1 and public code.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        blocks: int = 4,
        *,
        heads: int = 8,
        forward: int = 64,
        covariates: int = 0,
        statics: int = 0,
        steps: int = 50,
        patch: int = 1,
        joint: bool = False,
        prior: bool = False,
        linear: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels, self.covariates, self.statics = channels, covariates, statics
        self.patch, self.joint, self.prior = patch, joint, prior
        entry = patch * (channels if joint else 1)
        side = 128 + (0 if joint else 16) + (0 if prior else entry) + covariates * patch + statics
        self.level = StepEmbedding(steps)
        self.series = None if joint else nn.Embedding(channels, 16)
        self.enter = _linear(entry * (1 if prior else 2), width)
        self.blocks = nn.ModuleList(
            Block(width, side, heads, forward, dropout, both=not joint, linear=linear) for _ in range(blocks)
        )
        self.leave = nn.ModuleList((_linear(width, width), nn.Linear(width, entry)))
        nn.init.zeros_(self.leave[1].weight)  # type: ignore[arg-type]

    def forward(self, u: Tensor, level: Tensor, cond: Any) -> Tensor:
        cond = {} if cond is None else cond
        mask = cond["mask"].to(u) if "mask" in cond else torch.zeros_like(u)
        seen = cond["observed"].to(u) * mask if "observed" in cond else torch.zeros_like(u)
        signals = [u] if self.prior else [seen, (1.0 - mask) * u]
        h = relu(self.enter(torch.cat([self._fold(v) for v in signals], -1)))
        side = self._side(u, None if self.prior else mask, cond)
        emb = self.level(level)
        skips: Tensor | float = 0.0
        for block in self.blocks:
            h, skip = block(h, side, emb)
            skips = skips + skip
        first, last = self.leave
        return self._unfold(last(relu(first(skips / math.sqrt(len(self.blocks))))), u)

    def _fold(self, x: Tensor) -> Tensor:
        """(B, K, L) to tokens: (B, K, n, p), or (B, 1, n, K p) with `joint`; the end padded with zeros."""
        x = pad(x, (0, -x.shape[-1] % self.patch)).unflatten(-1, (-1, self.patch))
        return x.transpose(1, 2).flatten(2)[:, None] if self.joint else x

    def _unfold(self, h: Tensor, like: Tensor) -> Tensor:
        """Tokens to (B, C, L), the inverse of `_fold`."""
        if self.joint:
            h = h[:, 0].unflatten(-1, (self.channels, self.patch)).transpose(1, 2)
        return h.flatten(2)[..., : like.shape[-1]]

    def _side(self, u: Tensor, mask: Tensor | None, cond: dict[str, Tensor]) -> Tensor:
        """Side information, (B, K, n, side)."""
        B, L = u.shape[0], u.shape[-1]
        K = 1 if self.joint else u.shape[1]
        time = cond.get("time", torch.arange(L, device=u.device)[None]).to(u)
        parts = [sinusoids(time[:, :: self.patch], 128)[:, None]]
        if self.series is not None:
            ids = cond.get("series", torch.arange(K, device=u.device)[None])
            parts.append(self.series(ids)[:, :, None])
        if mask is not None:
            parts.append(self._fold(mask))
        if self.covariates:
            known = _entry(cond, "covariates", (self.covariates, L)).to(u)
            cut = pad(known, (0, -L % self.patch)).unflatten(-1, (-1, self.patch))
            parts.append(cut.transpose(1, 2).flatten(2)[:, None])
        if self.statics:
            parts.append(_entry(cond, "static", (self.statics,)).to(u)[:, None, None])
        n = parts[0].shape[2]
        return torch.cat([part.expand(B, K, n, -1) for part in parts], -1)


class Block(nn.Module):
    """Attention over time, then over series, a gate fed by side information, a residual and a skip."""

    def __init__(
        self, width: int, side: int, heads: int, forward: int, dropout: float, *, both: bool, linear: bool
    ) -> None:
        super().__init__()

        def layer(flat: bool) -> nn.Module:
            if flat:
                return LinearLayer(width, heads, forward, dropout)
            return nn.TransformerEncoderLayer(width, heads, forward, dropout, "gelu", batch_first=True)

        self.step = nn.Linear(128, width)
        self.time = layer(linear)
        self.across = layer(linear) if both else None
        self.middle, self.side = _linear(width, 2 * width), _linear(side, 2 * width)
        self.leave = _linear(width, 2 * width)

    def forward(self, h: Tensor, side: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        """(residual stream, skip), each (B, K, n, width)."""
        B, K, n, _ = h.shape
        y = h + self.step(emb)[:, None, None]
        if n > 1:
            y = self.time(y.flatten(0, 1)).unflatten(0, (B, K))
        if self.across is not None and K > 1:
            y = self.across(y.transpose(1, 2).flatten(0, 1)).unflatten(0, (B, n)).transpose(1, 2)
        gate, content = (self.middle(y) + self.side(side)).chunk(2, -1)
        residual, skip = self.leave(torch.sigmoid(gate) * torch.tanh(content)).chunk(2, -1)
        return (h + residual) / math.sqrt(2.0), skip


class LinearLayer(nn.Module):
    """A transformer layer whose attention is (phi(q) sum_j phi(k_j) v_j^T) / (phi(q) . sum_j phi(k_j)), phi = elu + 1.

    Source: Katharopoulos et al. 2020 (2006.16236) eq. 5 to 7.
    """

    def __init__(self, width: int, heads: int, forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.ModuleList((nn.Linear(width, forward), nn.Linear(forward, width)))
        self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, -1))
        q, k = elu(q) + 1.0, elu(k) + 1.0
        context = torch.einsum("bnhd,bnhe->bhde", k, v)
        mixed = torch.einsum("bnhd,bhde->bnhe", q, context) / (q * k.sum(1, keepdim=True)).sum(-1, keepdim=True)
        x = self.norms[0](x + self.drop(self.out(mixed.flatten(2))))
        first, last = self.feed
        return self.norms[1](x + self.drop(last(self.drop(gelu(first(x))))))  # type: ignore[no-any-return]


def sinusoids(position: Tensor, width: int) -> Tensor:
    """sin and cos of position / 10000^(2 j / width), alternating, (..., width)."""
    j = torch.arange(0, width, 2, device=position.device, dtype=position.dtype)
    angles = position[..., None] / 10000.0 ** (j / width)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def _linear(a: int, b: int) -> nn.Linear:
    """A layer with the initial weights of the public code's 1x1 convolutions."""
    layer = nn.Linear(a, b)
    nn.init.kaiming_normal_(layer.weight)
    return layer


def _entry(cond: dict[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    if key not in cond or tuple(cond[key].shape[1:]) != shape:
        got = tuple(cond[key].shape) if key in cond else None
        raise ValueError(f"the condition needs {key!r} of shape (B, {', '.join(map(str, shape))}), got {got}.")
    return cond[key]
