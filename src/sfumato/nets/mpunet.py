"""EDM2's network (Karras et al. 2024, 2312.02696, "config G") for signals and images, at any number of levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.magnitude import MPFourier, MPLayer, mp_cat, mp_silu, mp_sum, unit
from sfumato.nets.unet import pad_to, shuffle, unshuffle


class MPUNet(nn.Module):
    """`net(u, c_noise, cond)`: (B, channels, *size), (B,) to (B, channels, *size), magnitudes kept throughout.

    Encoder blocks normalise their input per position; the embedding modulates by 1 + gain linear(emb); attention is
    that of normalised queries, keys and values; a channel of ones takes the place of biases; the output has a gain that
    starts at 0. Activations are clipped to +-256.

    Args:
        channels: of the data.
        widths: feature channels of each level, the finest first.
        blocks: residual blocks of a level in the encoder; the decoder has one more.
        patch: space-to-depth factor at the entrance (ours).
        attention: levels (0 the finest) with self-attention.
        dims: 1 for signals, 2 for images.
        classes: number of classes of a label condition; 0: none. The label `classes` means "no class": a zero vector.
        dropout: inside each block, in training.

    Source: Karras et al. 2024 (2312.02696) figure 21 and table 5.
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
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch, self.classes, self.stride = patch, classes, patch * 2 ** (len(widths) - 1)
        emb, cells = max(widths), channels * patch**dims
        self.fourier, self.clock = MPFourier(widths[0]), MPLayer(widths[0], emb)
        self.label = MPLayer(classes, emb) if classes else None
        self.enter = MPLayer(cells + 1, widths[0], 3, dims)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for level, w in enumerate(widths):
            if level:
                self.down.append(MPBlock(width, width, emb, dims, "down", False, dropout))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(MPBlock(width, w, emb, dims, "keep", level in attention, dropout))
                width = w
                skips.append(width)
        for level, w in reversed(list(enumerate(widths))):
            if level + 1 < len(widths):
                self.up.append(MPBlock(width, width, emb, dims, "up", False, dropout, encoder=False))
            else:  # two blocks without a skip at the bottom
                self.up.append(MPBlock(width, width, emb, dims, "keep", bool(attention), dropout, encoder=False))
                self.up.append(MPBlock(width, width, emb, dims, "keep", False, dropout, encoder=False))
            for _ in range(blocks + 1):
                skip = skips.pop()
                block = MPBlock(width + skip, w, emb, dims, "keep", level in attention, dropout, encoder=False)
                block.joins = True
                self.up.append(block)
                width = w
        self.leave, self.gain = MPLayer(widths[0], cells, 3, dims), nn.Parameter(torch.zeros(()))

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        size = u.shape[2:]
        emb = self._embed(u, c_noise, cond)
        x = unshuffle(pad_to(u, self.stride), self.patch)
        x = self.enter(torch.cat([x, torch.ones_like(x[:, :1])], 1))
        skips = [x]
        for block in self.down:
            x = block(x, emb)
            skips.append(x)
        for block in self.up:
            x = block(mp_cat(x, skips.pop()) if block.joins else x, emb)
        x = shuffle(self.leave(x, self.gain), self.patch)
        window: tuple[Any, ...] = (..., *(slice(n) for n in size))
        return x[window]

    def _embed(self, u: Tensor, c_noise: Tensor, cond: Any) -> Tensor:
        emb: Tensor = self.clock(self.fourier(c_noise))
        if self.label is not None:
            none = torch.full((u.shape[0],), self.classes, device=u.device)
            label = none if cond is None else cond["label"] if isinstance(cond, dict) else cond
            hot = F.one_hot(label.to(u.device), self.classes + 1)[:, :-1].to(u)
            # sqrt(classes): a one-hot row then has unit root mean square.
            emb = mp_sum(emb, self.label(hot * self.classes**0.5))
        return mp_silu(emb)


class MPBlock(nn.Module):
    """A residual block that keeps magnitudes: x + f(x) by `mp_sum` with share 0.3, then attention likewise.

    Source: Karras et al. 2024 (2312.02696) figure 21, "Enc" and "Dec".
    """

    def __init__(
        self,
        entering: int,
        width: int,
        emb: int,
        dims: int,
        resample: str,
        attention: bool,
        dropout: float,
        *,
        encoder: bool = True,
    ) -> None:
        super().__init__()
        self.resample, self.encoder, self.joins = resample, encoder, False
        inside = width if encoder else entering
        self.skip = MPLayer(entering, width, 1, dims) if entering != width else None
        self.first, self.second = MPLayer(inside, width, 3, dims), MPLayer(width, width, 3, dims)
        self.modulate, self.gain = MPLayer(emb, width), nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        self.attention = MPAttention(width, dims) if attention else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.resample == "down":
            x = (F.avg_pool2d if x.ndim == 4 else F.avg_pool1d)(x, 2)
        elif self.resample == "up":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if self.encoder:
            x = x if self.skip is None else self.skip(x)
            x = unit(x, (1,))
        scale = self.modulate(emb, self.gain) + 1.0
        h = self.first(mp_silu(x))
        h = mp_silu(h * scale.reshape(*scale.shape, *[1] * (x.ndim - 2)))
        h = self.second(self.dropout(h))
        if not self.encoder and self.skip is not None:
            x = self.skip(x)
        x = mp_sum(x, h, 0.3)
        if self.attention is not None:
            x = mp_sum(x, self.attention(x), 0.3)
        return x.clamp(-256.0, 256.0)


class MPAttention(nn.Module):
    """Cosine attention: queries, keys and values of unit root mean square, heads of 64 channels or fewer.

    Source: Karras et al. 2024 (2312.02696) section 2.2, appendix B.3.
    """

    def __init__(self, width: int, dims: int) -> None:
        super().__init__()
        self.heads = max(1, width // 64)
        self.qkv, self.out = MPLayer(width, 3 * width, 1, dims), MPLayer(width, width, 1, dims)

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        q, k, v = unit(self.qkv(x).reshape(b, self.heads, c // self.heads, 3, -1), (2,)).unbind(3)
        q, k, v = (part.transpose(2, 3) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(2, 3).reshape(x.shape))
