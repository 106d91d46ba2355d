"""A U-Net for signals and images: fully convolutional or with attention, class, vector and image conditions, any size.

Blocks normalise over channels at each position (never over space), so that what the network does at a pixel depends on
its surroundings alone: a net trained on 64 x 64 crops runs on whole photographs. Things that are always seen whole are
learned faster with `groups`, which normalises over space too. Sizes that the strides do not divide are padded by
reflection and cropped back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV = {1: nn.Conv1d, 2: nn.Conv2d}
CONV_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


class UNet(nn.Module):
    """`net(u, c_noise, cond)`: (B, channels, *size), (B,) to (B, out, *size).

    Args:
        channels: of the data.
        widths: feature channels of each level, the finest first; each level has half the resolution of the one before.
        blocks: residual blocks of a level, on the way down and again on the way up.
        patch: space-to-depth factor at the entrance: 2 quarters the work on images.
        attention: levels (0 the finest) with self-attention after each block; none: fully convolutional.
        dims: 1 for signals (B, C, L), 2 for images (B, C, H, W).
        classes: number of classes of a label condition; 0: none. The label `classes` means "no class".
        vector: length of a vector condition; 0: none.
        image: channels of a condition that is laid beside the data; 0: none.
        augment: numbers that say how a training picture was augmented; 0: none. They are part of a dict alone.
        out: channels of the output; those of the data by default.
        dropout: inside each block, in training.
        groups: of channels that are normalised together over all positions, a divisor of every width; 0: all channels
            are, at each position by itself.

    A condition is a tensor, where the net has just one kind, or a dict with entries "label" (B,) int64, "vector"
    (B, vector), "image" (B, image, *size) and "augment" (B, augment). Without one: no class, a zero vector, a zero
    image, no augmentation.

    Raises:
        ValueError: if `groups` does not divide a width, or a level with attention has more than 32 channels that its
            heads, one for 32 of them, do not divide.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 96, 128),
        blocks: int = 2,
        *,
        patch: int = 1,
        attention: Sequence[int] = (),
        dims: int = 2,
        classes: int = 0,
        vector: int = 0,
        image: int = 0,
        augment: int = 0,
        out: int | None = None,
        dropout: float = 0.0,
        groups: int = 0,
    ) -> None:
        super().__init__()
        if groups and any(w % groups for w in widths):
            raise ValueError(f"groups of channels divide every width: got {groups} groups and widths {tuple(widths)}.")
        self.channels, self.patch, self.dims = channels, patch, dims
        self.classes, self.vector, self.image = classes, vector, image
        self.stride = patch * 2 ** (len(widths) - 1)
        conv, width = CONV[dims], 4 * widths[0]
        self.clock = Clock(width)
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.project = nn.Linear(vector, width) if vector else None
        self.augmented = nn.Linear(augment, width, bias=False) if augment else None
        cells = patch**dims
        self.enter = conv((channels + image) * cells, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, w in enumerate(widths):
            make = [Block(w, width, dims, level in attention, dropout, groups) for _ in range(2 * blocks)]
            self.down.append(nn.ModuleList(make[:blocks]))
            self.up.append(nn.ModuleList(make[blocks:]))
            if level + 1 < len(widths):
                self.shrink.append(conv(w, widths[level + 1], 2, stride=2))
                self.grow.append(CONV_TRANSPOSE[dims](widths[level + 1], w, 2, stride=2))
        self.leave = conv(widths[0], (out or channels) * cells, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]
        if dims == 2:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        u: Tensor,
        c_noise: Tensor,
        cond: Any = None,
        added: Sequence[Tensor | float] = (),
        skipped: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> Tensor:
        """F; `added` to the features of each level on the way down, and what is made of those that skip upwards."""
        size, beside = u.shape[2:], self._split(cond)
        if self.image:
            image = beside.get("image")
            beside_u = u.new_zeros(u.shape[0], self.image, *size) if image is None else image.to(u)
            u = torch.cat([u, beside_u], 1)
        emb = self._embed(u, c_noise, beside)
        x = self.enter(unshuffle(pad_to(u, self.stride), self.patch))
        skips = []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[union-attr, attr-defined]
                x = block(x, emb)
            if added:
                x = x + added[level]
            if level < len(self.shrink):
                skips.append(skipped[level](x) if skipped else x)
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                x = self.grow[level](x) + skips.pop()
            for block in self.up[level]:  # type: ignore[union-attr, attr-defined]
                x = block(x, emb)
        x = shuffle(self.leave(F.silu(x)), self.patch)
        window: tuple[Any, ...] = (..., *(slice(n) for n in size))
        return x[window]

    def _split(self, cond: Any) -> Mapping[str, Tensor]:
        if cond is None:
            return {}
        if isinstance(cond, Mapping):
            return cond
        kinds = [k for k, n in (("label", self.classes), ("vector", self.vector), ("image", self.image)) if n]
        if len(kinds) != 1:
            raise ValueError(
                f"this net has the conditions {kinds or 'none'}: give a dict with these entries, got a tensor."
            )
        return {kinds[0]: cond}

    def _embed(self, u: Tensor, c_noise: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        emb = self.clock(c_noise)
        if self.label is not None:
            label = cond.get("label")
            none = torch.full((u.shape[0],), self.classes, device=u.device)
            emb = emb + self.label(none if label is None else label.to(u.device))
        if self.project is not None and cond.get("vector") is not None:
            emb = emb + self.project(cond["vector"].to(u))
        if self.augmented is not None and cond.get("augment") is not None:
            emb = emb + self.augmented(cond["augment"].to(u))
        return F.silu(emb)


class Clock(nn.Module):
    """An embedding of c_noise, (B,) to (B, width): sines over a wide bank of frequencies, then two linear layers.

    The bank, 0.001 to 10 radians a unit, serves log SNRs, logarithms of sigma and integer steps alike.
    """

    frequencies: Tensor

    def __init__(self, width: int, count: int = 32) -> None:
        super().__init__()
        bank = torch.exp(torch.linspace(math.log(1e-3), math.log(10.0), count))
        self.register_buffer("frequencies", bank, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * count, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, c_noise: Tensor) -> Tensor:
        angle = c_noise.unsqueeze(-1) * self.frequencies.to(c_noise)
        return self.layers(torch.cat([angle.sin(), angle.cos()], -1))


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) (1 + scale) + shift))), scale and shift from the embedding."""

    def __init__(self, width: int, emb: int, dims: int, attention: bool, dropout: float, groups: int = 0) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(width, groups), norm(width, groups)
        self.conv1 = CONV[dims](width, width, 3, padding=1)
        self.conv2 = CONV[dims](width, width, 3, padding=1)
        self.modulate = nn.Linear(emb, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.attention = Attention(width, groups) if attention else None
        for layer in (self.conv2, self.modulate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(emb).reshape(emb.shape[0], -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        x = x + self.conv2(self.dropout(F.silu(h)))
        return x if self.attention is None else self.attention(x)


class Attention(nn.Module):
    """x + self-attention over all positions, heads of 32 channels."""

    def __init__(self, width: int, groups: int = 0) -> None:
        super().__init__()
        self.heads = max(1, width // 32)
        if width % self.heads:
            raise ValueError(f"attention has {self.heads} heads here, which do not divide {width} channels: take 32 n.")
        self.norm, self.qkv, self.out = norm(width, groups), nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        b, n, c = tokens.shape
        q, k, v = self.qkv(tokens).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return x + self.out(mixed).transpose(1, 2).reshape(x.shape)


def norm(width: int, groups: int) -> nn.Module:
    """Of `groups` of channels over all positions; 0: of all channels at each position."""
    return nn.GroupNorm(groups, width) if groups else ChannelNorm(width)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias).movedim(-1, 1)


def pad_to(x: Tensor, stride: int) -> Tensor:
    """x with its last axes grown to multiples of `stride`: by reflection, or by the edge where x is too short."""
    extra = [-n % stride for n in x.shape[2:]]
    if not any(extra):
        return x
    mode = "reflect" if all(e < n for e, n in zip(extra, x.shape[2:], strict=True)) else "replicate"
    return F.pad(x, [v for e in reversed(extra) for v in (0, e)], mode=mode)


def unshuffle(x: Tensor, patch: int) -> Tensor:
    """Space to depth: (B, C, *size) to (B, C patch^dims, *size / patch)."""
    if patch == 1:
        return x
    if x.ndim == 4:
        return F.pixel_unshuffle(x, patch)
    b, c, n = x.shape
    return x.reshape(b, c, n // patch, patch).transpose(2, 3).reshape(b, c * patch, n // patch)


def shuffle(x: Tensor, patch: int) -> Tensor:
    """The inverse of `unshuffle`."""
    if patch == 1:
        return x
    if x.ndim == 4:
        return F.pixel_shuffle(x, patch)
    b, c, n = x.shape
    return x.reshape(b, c // patch, patch, n).transpose(2, 3).reshape(b, c // patch, n * patch)
