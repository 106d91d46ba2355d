"""A U-Net along a sequence of pen steps that attends to a text, told the noise level itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.sinusoids import sinusoids


class PenUNet(nn.Module):
    """net(u, level, text): u (B, 2, L), L a multiple of 8, to the noise (B, 2, L) and logits of the pen (B, 1, L).

    Convolutions at four scales, each followed by a scale and a shift from the level, which is alpha; at the second
    scale and below, and twice at the coarsest, attention to the text and then to the sequence. The text is (B, T)
    symbols, of which number `symbols` stands for none; without symbols there is attention to the sequence alone.

    Source: Luhman & Luhman 2020 (2011.06704) section 3, appendix, public code; the writer's style is left out (ours).
    """

    def __init__(
        self, widths: tuple[int, ...] = (128, 192, 256, 384), *, symbols: int = 0, heads: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if len(widths) != 4 or any(width % heads for width in widths[1:]):
            raise ValueError(f"the network has 4 widths, all but the first multiples of {heads}, got {widths}.")
        a, b, c, d = widths
        self.level = nn.Sequential(nn.Linear(1, 2048), nn.SiLU(), nn.Linear(2048, 32))
        self.symbols = nn.Embedding(symbols + 1, d) if symbols else None
        self.enter, self.leave = nn.Conv1d(2, a, 1), nn.Conv1d(a, 3, 1)
        self.down = nn.ModuleList([Convolved(a, a, dropout), Convolved(a, b, dropout), Convolved(b, c, dropout)])
        text = d if symbols else 0
        self.seen = nn.ModuleList([Attended(b, text, heads, 4.0), Attended(c, text, heads, 2.0)])
        self.bottom = Convolved(c, d, dropout)
        self.last = nn.ModuleList(Attended(d, text, heads, 1.0) for _ in range(2))
        self.skips = nn.ModuleList([nn.Conv1d(c, d, 1), nn.Conv1d(b, c, 1), nn.Conv1d(a, b, 1)])
        self.up = nn.ModuleList([Convolved(d, c, dropout), Convolved(c, b, dropout), Convolved(b, a, dropout)])

    def forward(self, u: Tensor, level: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if u.shape[2] % 8:
            raise ValueError(f"the length of a sequence is a multiple of 8, got {u.shape[2]}.")
        emb = self.level(level.to(u).reshape(-1, 1).expand(len(u), 1))
        words = None
        if self.symbols is not None:
            if text is None:
                raise ValueError("this network writes a text: give the condition, (B,) or (B, T) symbols.")
            words = self.symbols(text.reshape(len(u), -1))
        h, kept = self.enter(u), []
        for i, block in enumerate(self.down):
            h = block(h, emb)
            h = self.seen[i - 1](h, emb, words) if i else h
            kept.append(h)
            h = F.avg_pool1d(h, 2)
        h = self.bottom(h, emb)
        for layer in self.last:
            h = layer(h, emb, words)
        for block, skip, side in zip(self.up, self.skips, reversed(kept), strict=True):
            h = block(F.interpolate(h, scale_factor=2.0) + skip(side), emb)
        out = self.leave(h)
        return out[:, :2], out[:, 2:]


class Affine(nn.Module):
    """h (1 + scale) + shift, both linear in the embedding of the level."""

    def __init__(self, width: int, emb: int = 32) -> None:
        super().__init__()
        self.both = nn.Linear(emb, 2 * width)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.both(emb)[..., None].chunk(2, 1)
        return torch.addcmul(shift, h, 1.0 + scale)


class Convolved(nn.Module):
    """skip(h) + affine(fc(silu(affine(conv(silu(affine(conv(silu(h)))))))): two convolutions of width 3 and a layer."""

    def __init__(self, entering: int, leaving: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.skip = nn.Conv1d(entering, leaving, 3, padding=1)
        self.layers = nn.ModuleList(
            [
                nn.Conv1d(entering, leaving // 2, 3, padding=1),
                nn.Conv1d(leaving // 2, leaving, 3, padding=1),
                nn.Conv1d(leaving, leaving, 1),
            ]
        )
        self.affines = nn.ModuleList(Affine(width) for width in (leaving // 2, leaving, leaving))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        x = h
        for layer, affine in zip(self.layers, self.affines, strict=True):
            x = self.dropout(affine(layer(F.silu(x)), emb))
        out: Tensor = self.skip(h) + x
        return out


class Attended(nn.Module):
    """Attention to the text where there is one, to the sequence, and two layers; after each, the level's affine."""

    def __init__(self, width: int, text: int, heads: int, pace: float) -> None:
        super().__init__()
        self.pace = pace  # of the positions: neighbours of a coarse scale lie further apart
        self.crossed = nn.MultiheadAttention(width, heads, batch_first=True, kdim=text, vdim=text) if text else None
        self.own = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.affines = nn.ModuleList(Affine(width) for _ in range(3 if text else 2))

    def forward(self, h: Tensor, emb: Tensor, words: Tensor | None) -> Tensor:
        def settled(x: Tensor, i: int) -> Tensor:
            moved: Tensor = self.affines[i](self.norm(x).transpose(1, 2), emb)
            return moved.transpose(1, 2)

        x = h.transpose(1, 2)
        places = _places(x, self.pace)
        if self.crossed is not None and words is not None:
            keys = words + _places(words, 1.0)
            x = settled(x + self.crossed(x + places, keys, words, need_weights=False)[0], 0)
        x = settled(x + self.own(x + places, x + places, x, need_weights=False)[0], -2)
        return settled(x + self.feed(x), -1).transpose(1, 2)


def _places(x: Tensor, pace: float) -> Tensor:
    """Sinusoids of the positions along x (B, L, width), times `pace`."""
    return sinusoids(torch.arange(x.shape[1], device=x.device) * pace, x.shape[2]).to(x)
