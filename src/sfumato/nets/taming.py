"""The autoencoder of VQGAN and latent diffusion: what published weights of its KL and VQ kinds fit into.

Parameters carry the names of those files (`encoder.down.0.block.0.norm1.weight`), so that a state dict loads as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.ablated import Grow, attend
from sfumato.nets.unet import pad_to


class Taming(nn.Module):
    """E: (B, channels, H, W) to mean and log variance (B, latent, H / stride, W / stride); G back.

    Args:
        channels: of the data.
        latent: channels of the code, `embed_dim` of the code that it is from.
        inner: channels on either side of the code, `z_channels`; those of the code by default.
        widths: feature channels of each level, the finest first; each level has half the resolution of the one before.
        base: channels after the entrance of E; those of the first level by default.
        blocks: residual blocks of a level in E; one more in G.
        attention: levels with self-attention after each block.
        middle: the middle has self-attention.
        entries: of the codebook, to whose nearest entry G rounds a code, gradients passing as if it had not; 0: none,
            and E has a log variance, held to [-30, 20].

    Sizes that the strides do not divide are padded by reflection on the way in, and `decode` crops to the size it is
    told. Where there is a codebook the log variance is -30: the code is E itself.
    Source: Esser et al. 2021 (2012.09841) table 7; Rombach et al. 2022 (2112.10752) appendix G; their public code.
    """

    def __init__(
        self,
        channels: int = 3,
        latent: int = 4,
        widths: Sequence[int] = (128, 256, 512, 512),
        blocks: int = 2,
        *,
        inner: int | None = None,
        base: int | None = None,
        attention: Sequence[int] = (),
        middle: bool = True,
        entries: int = 0,
    ) -> None:
        super().__init__()
        self.latent, self.stride, z, base = latent, 2 ** (len(widths) - 1), inner or latent, base or widths[0]
        doubled = 1 if entries else 2
        self.encoder = _Side(channels, base, widths, blocks, attention, middle, doubled * z, down=True)
        self.decoder = _Side(z, widths[-1], widths, blocks + 1, attention, middle, channels, down=False)
        self.quant_conv = nn.Conv2d(doubled * z, doubled * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, z, 1)
        self.quantize = nn.Module()
        if entries:
            self.quantize.embedding = nn.Embedding(entries, latent)
        self.entries = entries

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log variance) of q(z | x)."""
        moments = self.quant_conv(self.encoder(pad_to(x, self.stride)))
        if self.entries:
            return moments, torch.full_like(moments, -30.0)
        mean, log_var = moments.chunk(2, 1)
        return mean, log_var.clamp(-30.0, 20.0)

    def decode(self, z: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The picture of a code, cropped to `size`."""
        if self.entries:
            z = z + (self.nearest(z) - z).detach()
        x = self.decoder(self.post_quant_conv(z))
        window: tuple[Any, ...] = (..., *(slice(n) for n in size or ()))
        out: Tensor = x[window]
        return out

    def nearest(self, z: Tensor) -> Tensor:
        """The nearest entry of the codebook at each position."""
        book = cast(nn.Embedding, self.quantize.embedding).weight
        rows = z.movedim(1, -1)
        # |z|^2 is the same for all entries.
        far = book.square().sum(1) - 2.0 * rows.flatten(0, -2) @ book.T
        return book[far.argmin(1)].view(rows.shape).movedim(-1, 1)

    def shape(self, event: Sequence[int]) -> tuple[int, ...]:
        """Shape of the code of an event (channels, H, W)."""
        return (self.latent, *(math.ceil(n / self.stride) for n in event[1:]))


class _Side(nn.Module):
    """Encoder or decoder: levels, and a middle at the coarsest."""

    def __init__(
        self,
        channels: int,
        entering: int,
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        middle: bool,
        leaving: int,
        *,
        down: bool,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, entering, 3, padding=1)
        last, order = len(widths) - 1, range(len(widths)) if down else reversed(range(len(widths)))
        w, levels = entering, []
        for i in order:
            level = nn.Module()
            ins = [w] + [widths[i]] * (blocks - 1)
            level.block = nn.ModuleList([Block(n, widths[i]) for n in ins])
            level.attn = nn.ModuleList([Attention(widths[i]) for _ in ins] if i in attention else [])
            w = widths[i]
            if down and i < last:
                level.downsample = Shrink(w)
            elif not down and i:
                level.upsample = Grow(w, True)
            levels.append(level)
        self.down, self.up = nn.ModuleList(levels if down else []), nn.ModuleList([] if down else levels[::-1])
        self.mid = nn.Module()
        self.mid.block_1, self.mid.block_2 = Block(widths[-1], widths[-1]), Block(widths[-1], widths[-1])
        self.mid.attn_1 = Attention(widths[-1]) if middle else nn.Identity()
        self.norm_out, self.conv_out = _norm(w), nn.Conv2d(w, leaving, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = _level(level, x, "downsample")
        for name in ("block_1", "attn_1", "block_2"):
            x = getattr(self.mid, name)(x)
        for level in reversed(self.up):
            x = _level(level, x, "upsample")
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


def _level(level: nn.Module, x: Tensor, last: str) -> Tensor:
    blocks, attention = cast(nn.ModuleList, level.block), cast(nn.ModuleList, level.attn)
    for i, block in enumerate(blocks):
        x = block(x)
        if len(attention):
            x = attention[i](x)
    return x if not hasattr(level, last) else getattr(level, last)(x)


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), and a convolution of x where it widens."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(width), _norm(out)
        self.conv1, self.conv2 = nn.Conv2d(width, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.nin_shortcut = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))
        return out


class Attention(nn.Module):
    """Self-attention of one head over positions, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        qkv = torch.cat([self.q(h), self.k(h), self.v(h)], 1).flatten(2)
        return x + self.proj_out(attend(qkv, 1, True).view_as(x))


class Shrink(nn.Module):
    """A convolution of stride 2, padded by zeros on the right and below alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=1e-6)
