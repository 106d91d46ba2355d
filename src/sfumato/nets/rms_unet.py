"""The U-Net of denoising-diffusion-pytorch: root-mean-square norms, linear attention, what its weights fit into.

Parameters carry the names of those files (`downs.0.0.block1.proj.weight`), so that a state dict loads as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.ablated import divided
from sfumato.nets.sinusoids import sinusoids
from sfumato.nets.unet import unshuffle

MEMORY = 4  # keys and values that an attention has learned, beside those of its input


class RMSUNet(nn.Module):
    """`net(u, c_noise, cond)`: (B, channels, H, W), (B,) to (B, out, H, W).

    Args:
        channels: of the data.
        base: number of the clock's sinusoids; the embedding has four times as many.
        widths: feature channels after the entrance and after each level, the finest first: one more than levels.
        full: levels with softmax attention; the others have linear attention. The middle has softmax attention.
        heads, head_channels: of the attention of each level; the middle has those of the last.
        selfed: a condition, an estimate of x_0 like u, is laid beside the data; zeros without one.
        frequencies: of Fourier features of the clock, which is then the log SNR; 0: sinusoids of the step's index.
        theta: longest period of the sinusoids over 2 pi.
        out: channels of the output; those of the data by default.
        dropout: in training.

    Raises:
        ValueError: in a call, for a size that the strides do not divide, or a condition that it does not take.

    Source: public code of denoising-diffusion-pytorch 2.3; linear attention: Shen et al. 2021 (1812.01243).
    """

    def __init__(
        self,
        channels: int = 3,
        base: int = 64,
        widths: Sequence[int] = (64, 64, 128, 256, 512),
        *,
        full: Sequence[int] = (3,),
        heads: Sequence[int] = (4, 4, 4, 4),
        head_channels: Sequence[int] = (32, 32, 32, 32),
        selfed: bool = False,
        frequencies: int = 0,
        theta: float = 10000.0,
        out: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        levels, emb = len(widths) - 1, 4 * base
        if len(heads) != levels or len(head_channels) != levels:
            raise ValueError(f"{levels} levels need as many `heads` and `head_channels`, got {heads}, {head_channels}.")
        self.selfed, self.stride = selfed, 2 ** (levels - 1)

        def attention(width: int, level: int) -> nn.Module:
            kind = Attention if level in full else LinearAttention
            return kind(width, heads[level], head_channels[level])

        def block(width: int, leaves: int) -> Block:
            return Block(width, leaves, emb, dropout)

        self.init_conv = nn.Conv2d(channels * (1 + selfed), widths[0], 7, padding=3)
        clock = Fourier(frequencies) if frequencies else Sinusoids(base, theta)
        entering = 2 * frequencies + 1 if frequencies else base
        self.time_mlp = nn.Sequential(clock, nn.Linear(entering, emb), nn.GELU(), nn.Linear(emb, emb))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, (w, after) in enumerate(pairwise(widths)):
            last = level == levels - 1
            leave = nn.Conv2d(w, after, 3, padding=1) if last else nn.Sequential(Fold(), nn.Conv2d(4 * w, after, 1))
            self.downs.append(nn.ModuleList([block(w, w), block(w, w), attention(w, level), leave]))
            conv = nn.Conv2d(after, w, 3, padding=1)
            grow = nn.Sequential(nn.Upsample(scale_factor=2.0), conv) if level else conv
            up = [block(after + w, after), block(after + w, after), attention(after, level), grow]
            self.ups.insert(0, nn.ModuleList(up))
        self.mid_block1, self.mid_block2 = block(widths[-1], widths[-1]), block(widths[-1], widths[-1])
        self.mid_attn = Attention(widths[-1], heads[-1], head_channels[-1])
        self.final_res_block = block(2 * widths[0], widths[0])
        self.final_conv = nn.Conv2d(widths[0], out or channels, 1)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Tensor | None = None) -> Tensor:
        divided(u, self.stride)
        if cond is not None and not self.selfed:
            raise ValueError("this network has no condition: leave it out.")
        if self.selfed:
            u = torch.cat([torch.zeros_like(u) if cond is None else cond.to(u), u], 1)
        emb = self.time_mlp(c_noise)
        x = first = self.init_conv(u)
        kept = []
        for down in self.downs:
            one, two, attend, leave = cast(nn.ModuleList, down)
            x = one(x, emb)
            kept.append(x)
            x = two(x, emb)
            x = x + attend(x)
            kept.append(x)
            x = leave(x)
        x = self.mid_block1(x, emb)
        x = self.mid_block2(x + self.mid_attn(x), emb)
        for up in self.ups:
            one, two, attend, leave = cast(nn.ModuleList, up)
            x = one(torch.cat([x, kept.pop()], 1), emb)
            x = two(torch.cat([x, kept.pop()], 1), emb)
            x = leave(x + attend(x))
        out: Tensor = self.final_conv(self.final_res_block(torch.cat([x, first], 1), emb))
        return out


class Sinusoids(nn.Module):
    """The sinusoids of a step's index."""

    def __init__(self, channels: int, theta: float) -> None:
        super().__init__()
        self.channels, self.theta = channels, theta

    def forward(self, clock: Tensor) -> Tensor:
        found = sinusoids(clock, self.channels, endpoint=True, sine_first=True, theta=self.theta)
        return found.to(clock.dtype)


class Fourier(nn.Module):
    """z, sin(2 pi z w), cos(2 pi z w) of the clock z, with learned or random w."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(count))

    def forward(self, clock: Tensor) -> Tensor:
        angles = 2.0 * math.pi * clock[:, None] * self.weights
        return torch.cat([clock[:, None], angles.sin(), angles.cos()], 1)


class Fold(nn.Module):
    """Half the resolution, four times the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return unshuffle(x, 2)


class RMSNorm(nn.Module):
    """g x / rms(x), over the channels of each position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.g * math.sqrt(x.shape[1])


class Part(nn.Module):
    """Convolution, norm, (scale and shift,) SiLU, dropout."""

    def __init__(self, width: int, out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.proj, self.norm, self.dropout = nn.Conv2d(width, out, 3, padding=1), RMSNorm(out), nn.Dropout(dropout)

    def forward(self, x: Tensor, film: Tensor | None = None) -> Tensor:
        x = self.norm(self.proj(x))
        if film is not None:
            scale, shift = film[:, :, None, None].chunk(2, 1)
            x = x * (1.0 + scale) + shift
        out: Tensor = self.dropout(F.silu(x))
        return out


class Block(nn.Module):
    """A residual block, the first half of which the embedding scales and shifts."""

    def __init__(self, width: int, out: int, emb: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out))
        self.block1, self.block2 = Part(width, out, dropout), Part(out, out)
        self.res_conv = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        out: Tensor = self.res_conv(x) + self.block2(self.block1(x, self.mlp(emb)))
        return out


class _Attending(nn.Module):
    """Norm, and q, k and v of each head, (B, heads, c, positions), with learned keys and values after those of x."""

    def __init__(self, width: int, heads: int, channels: int, memory: Sequence[int]) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.to_qkv = RMSNorm(width), nn.Conv2d(width, 3 * heads * channels, 1, bias=False)
        self.mem_kv = nn.Parameter(torch.zeros(2, heads, *memory))

    def parts(self, x: Tensor, learned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, after the learned (2, heads, c, MEMORY)."""
        qkv = self.to_qkv(self.norm(x)).flatten(2)
        q, *kv = (part.unflatten(1, (self.heads, -1)) for part in qkv.chunk(3, 1))
        k, v = (torch.cat([m.expand(len(x), -1, -1, -1), part], 3) for m, part in zip(learned, kv, strict=True))
        return q, k, v


class Attention(_Attending):
    """softmax(q^T k / sqrt(c)) v over positions and learned keys."""

    def __init__(self, width: int, heads: int, channels: int) -> None:
        super().__init__(width, heads, channels, (MEMORY, channels))
        self.to_out = nn.Conv2d(heads * channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.transpose(2, 3) for part in self.parts(x, self.mem_kv.transpose(2, 3)))
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out(mixed.transpose(2, 3).reshape(len(x), -1, *x.shape[2:]))
        return out


class LinearAttention(_Attending):
    """(softmax over positions of k) v, read by softmax over channels of q: linear in the positions."""

    def __init__(self, width: int, heads: int, channels: int) -> None:
        super().__init__(width, heads, channels, (channels, MEMORY))
        self.to_out = nn.Sequential(nn.Conv2d(heads * channels, width, 1), RMSNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.parts(x, self.mem_kv)
        mixed = (v @ k.softmax(3).transpose(2, 3)) @ (q.softmax(2) / math.sqrt(q.shape[2]))
        out: Tensor = self.to_out(mixed.reshape(len(x), -1, *x.shape[2:]))
        return out
