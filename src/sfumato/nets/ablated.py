"""The U-Net of improved-diffusion and guided-diffusion (ADM), and its classifier: what published weights fit into.

Parameters carry the names of those files (`input_blocks.0.0.weight`), so that a state dict loads as it is. EDM's
version of the network is the same function under other names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.crossed import Crossed
from sfumato.nets.sinusoids import sinusoids

RESAMPLE = ("conv", "block", "pool")


class Ablated(nn.Module):
    """`net(u, c_noise, cond)`: (B, channels, H, W), (B,) to (B, out, H, W); c_noise is the index of a step.

    Args:
        channels: of the data.
        base: channels of the sinusoids of the clock; the embedding has four times as many.
        widths: feature channels of each level, the finest first.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: levels with self-attention; the middle has it always.
        heads: of the attention, where `head_channels` is 0.
        head_channels: channels of a head; 0: by `heads`.
        ordered: the channels of qkv are split before the heads; else after.
        resample: between levels "conv" (strided, and nearest neighbour then a convolution), "block" (residual blocks)
            or "pool" (mean, and nearest neighbour).
        film: the embedding scales and shifts; else it is added.
        classes: number of classes; 0: none.
        unlabelled: a call without a class, or with the label `classes`, is known to the network.
        context: channels of the class as a context that attention reads, as in latent diffusion, instead of an addition
            to the embedding; 0: added.
        image: channels of a low-resolution image, enlarged and laid beside the data; 0: none.
        out: channels of the output; those of the data by default.
        least: fewest channels of a group of the normalisation, which has 32 groups otherwise.
        dropout: in training.

    A condition is the label (B,), the image (B, image, h, w), or a dict of both, "label" and "image".

    Raises:
        ValueError: in a call, for a missing condition, or a size that the strides do not divide.

    Source: Nichol & Dhariwal 2021 (2102.09672) and Dhariwal & Nichol 2021 (2105.05233), public code.
    """

    def __init__(
        self,
        channels: int = 3,
        base: int = 128,
        widths: Sequence[int] = (128, 256, 384, 512),
        blocks: int = 2,
        *,
        attention: Sequence[int] = (2, 3),
        heads: int = 4,
        head_channels: int = 0,
        ordered: bool = False,
        resample: str = "conv",
        film: bool = True,
        classes: int = 0,
        unlabelled: bool = False,
        context: int = 0,
        image: int = 0,
        out: int | None = None,
        least: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.base, self.classes, self.unlabelled, self.image = base, classes, unlabelled, image
        self.context = context
        self.stride = 2 ** (len(widths) - 1)
        make = _Make(4 * base, heads, head_channels, ordered, film, least, dropout, context)
        self.time_embed = _clock(base)
        if classes:
            self.label_emb = nn.Embedding(classes, context or 4 * base)
        self.input_blocks, skips = _descent(make, channels + image, widths, blocks, attention, resample)
        self.middle_block = make.middle(widths[-1])
        self.output_blocks = nn.ModuleList()
        w = widths[-1]
        for level in reversed(range(len(widths))):
            for i in range(blocks + 1):
                parts: list[nn.Module] = [make.block(w + skips.pop(), widths[level])]
                w = widths[level]
                if level in attention:
                    parts.append(make.attention(w))
                if level and i == blocks:
                    parts.append(make.block(w, w, grow=True) if resample == "block" else Grow(w, resample == "conv"))
                self.output_blocks.append(Stage(*parts))
        self.out = nn.Sequential(make.norm(w), nn.SiLU(), nn.Conv2d(w, out or channels, 3, padding=1))

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        divided(u, self.stride)
        cond = self._split(cond)
        emb = self.time_embed(sinusoids(c_noise, self.base).to(u.dtype))
        context = None
        if self.context:
            context = self._label(cond.get("label"))[:, None].expand(len(u), -1, -1)
        elif self.classes:
            emb = emb + self._label(cond.get("label"))
        if self.image:
            u = torch.cat([u, self._beside(u, cond.get("image"))], 1)
        kept = []
        for stage in self.input_blocks:
            u = stage(u, emb, context)
            kept.append(u)
        u = self.middle_block(u, emb, context)
        for stage in self.output_blocks:
            u = stage(torch.cat([u, kept.pop()], 1), emb, context)
        out: Tensor = self.out(u)
        return out

    def _split(self, cond: Any) -> Mapping[str, Tensor]:
        if isinstance(cond, Mapping):
            return cond
        if cond is not None and bool(self.classes) == bool(self.image):
            have = "a label and an image: give a dict with both" if self.classes else "no condition: leave it out"
            raise ValueError(f"this network has {have}.")
        return {} if cond is None else {"label" if self.classes else "image": cond}

    def _label(self, label: Tensor | None) -> Tensor:
        table: Tensor = self.label_emb.weight
        if label is None:
            if not self.unlabelled:
                raise ValueError(f"this network was trained with a label between 0 and {self.classes - 1}: give one.")
            return table.new_zeros(1, table.shape[1])
        known = table if not self.unlabelled else torch.cat([table, table.new_zeros(1, table.shape[1])])
        return known[label]

    def _beside(self, u: Tensor, image: Tensor | None) -> Tensor:
        if image is None:
            raise ValueError('this network enlarges an image: give it as the condition "image", in model space.')
        return F.interpolate(image.to(u), u.shape[2:], mode="bilinear")


class AblatedClassifier(nn.Module):
    """The first half of `Ablated` with attention pooling: `net(u, c_noise)` to (B, classes) logits.

    Args:
        size: side of the pictures, which the position embedding of the pooling fixes; others as in `Ablated`.

    Source: Dhariwal & Nichol 2021 (2105.05233), public code.
    """

    def __init__(
        self,
        size: int = 64,
        channels: int = 3,
        base: int = 128,
        widths: Sequence[int] = (128, 256, 384, 512),
        blocks: int = 4,
        *,
        attention: Sequence[int] = (1, 2, 3),
        head_channels: int = 64,
        resample: str = "block",
        film: bool = True,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.size, self.base = size, base
        make = _Make(4 * base, 1, head_channels, False, film, 1, 0.0)
        self.time_embed = _clock(base)
        self.input_blocks, _ = _descent(make, channels, widths, blocks, attention, resample)
        self.middle_block = make.middle(widths[-1])
        side = size // 2 ** (len(widths) - 1)
        pool = AttentionPool(side**2, widths[-1], widths[-1] // head_channels, classes)
        self.out = nn.Sequential(make.norm(widths[-1]), nn.SiLU(), pool)

    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        if u.shape[2:] != (self.size, self.size):
            raise ValueError(f"this classifier is for pictures of {self.size} x {self.size}, got {tuple(u.shape[2:])}.")
        emb = self.time_embed(sinusoids(c_noise, self.base).to(u.dtype))
        for stage in self.input_blocks:
            u = stage(u, emb)
        logits: Tensor = self.out(self.middle_block(u, emb))
        return logits


class Stage(nn.Sequential):
    """Layers in turn; the blocks among them are also given the embedding, and some attention the context."""

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None = None) -> Tensor:  # type: ignore[override]
        for layer in self:
            if isinstance(layer, Block):
                x = layer(x, emb)
            else:
                x = layer(x, context) if isinstance(layer, Crossed) else layer(x)
        return x


class Block(nn.Module):
    """A residual block: norm, SiLU, (resampling,) convolution; embedding; norm, SiLU, convolution."""

    def __init__(
        self, width: int, out: int, emb: int, film: bool, least: int, dropout: float, grow: bool, shrink: bool
    ) -> None:
        super().__init__()
        self.film, self.grow, self.shrink = film, grow, shrink
        self.in_layers = nn.Sequential(norm(width, least), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out if film else out))
        last = nn.Conv2d(out, out, 3, padding=1)
        self.out_layers = nn.Sequential(norm(out, least), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip_connection = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[2](self._resampled(self.in_layers[1](self.in_layers[0](x))))
        e = self.emb_layers(emb)[:, :, None, None]
        if self.film:
            scale, shift = e.chunk(2, 1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1.0 + scale) + shift)
        else:
            h = self.out_layers(h + e)
        out: Tensor = self.skip_connection(self._resampled(x)) + h
        return out

    def _resampled(self, x: Tensor) -> Tensor:
        if self.grow:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(x, 2) if self.shrink else x


class Attention(nn.Module):
    """Self-attention over positions, with a residual."""

    def __init__(self, width: int, heads: int, ordered: bool, least: int) -> None:
        super().__init__()
        self.heads, self.ordered = heads, ordered
        self.norm = norm(width, least)
        self.qkv, self.proj_out = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return (flat + self.proj_out(attend(self.qkv(self.norm(flat)), self.heads, self.ordered))).view_as(x)


class AttentionPool(nn.Module):
    """Attention of the mean over all positions: (B, C, H, W) to (B, classes)."""

    def __init__(self, positions: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(width, positions + 1))
        self.qkv_proj, self.c_proj = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        flat = torch.cat([flat.mean(-1, keepdim=True), flat], -1) + self.positional_embedding
        pooled: Tensor = self.c_proj(attend(self.qkv_proj(flat), self.heads, True))
        return pooled[:, :, 0]


class Shrink(nn.Module):
    """Half the resolution, by a strided convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class Grow(nn.Module):
    """Twice the resolution: nearest neighbour, then a convolution if there is one."""

    def __init__(self, width: int, learned: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1) if learned else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def attend(qkv: Tensor, heads: int, ordered: bool) -> Tensor:
    """softmax(q^T k / sqrt(c)) v for each head, (B, 3 C, N) to (B, C, N).

    Args:
        ordered: the channels are (q, k, v) of (heads, c); else heads of (q, k, v, c).
    """
    batch, _, n = qkv.shape
    parts = qkv.view(batch, 3, heads, -1, n).unbind(1) if ordered else qkv.view(batch, heads, 3, -1, n).unbind(2)
    q, k, v = (part.transpose(2, 3) for part in parts)
    return F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(batch, -1, n)


def norm(width: int, least: int) -> nn.GroupNorm:
    """Group normalisation with 32 groups, fewer where they would have less than `least` channels."""
    return nn.GroupNorm(min(32, width // least), width)


class _Make:
    """The parts of one network, which share these settings."""

    def __init__(
        self,
        emb: int,
        heads: int,
        head_channels: int,
        ordered: bool,
        film: bool,
        least: int,
        dropout: float,
        context: int = 0,
    ) -> None:
        self.emb, self.heads, self.head_channels, self.context = emb, heads, head_channels, context
        self.ordered, self.film, self.least, self.dropout = ordered, film, least, dropout

    def block(self, width: int, out: int, *, grow: bool = False, shrink: bool = False) -> Block:
        return Block(width, out, self.emb, self.film, self.least, self.dropout, grow, shrink)

    def attention(self, width: int) -> Attention | Crossed:
        heads = width // self.head_channels if self.head_channels else self.heads
        if heads < 1 or width % heads or (self.head_channels and width % self.head_channels):
            raise ValueError(f"{width} channels do not make heads of {self.head_channels or width / max(heads, 1):g}.")
        return (
            Crossed(width, heads, self.context) if self.context else Attention(width, heads, self.ordered, self.least)
        )

    def middle(self, width: int) -> Stage:
        return Stage(self.block(width, width), self.attention(width), self.block(width, width))

    def norm(self, width: int) -> nn.GroupNorm:
        return norm(width, self.least)


def _clock(base: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base))


def _descent(
    make: _Make, channels: int, widths: Sequence[int], blocks: int, attention: Sequence[int], resample: str
) -> tuple[nn.ModuleList, list[int]]:
    """The way down, and the channels of what each of its stages leaves."""
    if resample not in RESAMPLE:
        raise ValueError(f"resample is one of {', '.join(RESAMPLE)}, got {resample!r}.")
    stages, w = nn.ModuleList([Stage(nn.Conv2d(channels, widths[0], 3, padding=1))]), widths[0]
    left = [w]
    for level, width in enumerate(widths):
        for _ in range(blocks):
            parts: list[nn.Module] = [make.block(w, width)]
            w = width
            if level in attention:
                parts.append(make.attention(w))
            stages.append(Stage(*parts))
            left.append(w)
        if level + 1 < len(widths):
            if resample == "block":
                stages.append(Stage(make.block(w, w, shrink=True)))
            else:
                stages.append(Stage(Shrink(w) if resample == "conv" else nn.AvgPool2d(2)))
            left.append(w)
    return stages, left


def divided(u: Tensor, stride: int) -> None:
    """Raises a ValueError where the stride does not divide a side."""
    if any(n % stride for n in u.shape[2:]):
        raise ValueError(f"this network takes sides that {stride} divides, got {tuple(u.shape[2:])}.")
