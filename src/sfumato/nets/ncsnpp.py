"""DDPM++ and NCSN++, the U-Nets of score SDEs that EDM's public weights have too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.ablated import attend, divided
from sfumato.nets.sinusoids import sinusoids

HALF = math.sqrt(0.5)  # every sum of two branches is scaled by it


class NCSNpp(nn.Module):
    """`net(u, c_noise, cond)`: (B, channels, H, W), (B,) to (B, channels, H, W).

    The defaults are DDPM++; NCSN++ is `embedding="fourier", encoder="residual", taps=(1, 3, 3, 1)`. All sums of
    branches are scaled by sqrt(1/2); normalisation has min(32, C / 4) groups.

    Args:
        base: channels after the entrance; the embedding has four times as many.
        widths: feature channels of each level, the finest first.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: levels with self-attention, after each block on the way down and the last one on the way up.
        embedding: of the clock, "positional" (base sinusoids) or "fourier" (2 base, at frequencies in the weights).
        encoder: "standard"; "skip" adds the reduced picture at each level, "residual" a pyramid of learned features.
        decoder: "standard"; "skip" adds up pictures of all levels.
        taps: of the filter that halves and doubles the resolution.
        classes: of a label condition; 0: none. No label, or the label `classes`, means no class.

    Source: Song et al. 2021 (2011.13456) appendix H; Karras et al. 2022 (2206.00364) table 7.
    """

    def __init__(
        self,
        channels: int = 3,
        base: int = 128,
        widths: Sequence[int] = (128, 256, 256, 256),
        blocks: int = 4,
        *,
        attention: Sequence[int] = (1,),
        embedding: str = "positional",
        encoder: str = "standard",
        decoder: str = "standard",
        taps: Sequence[float] = (1.0, 1.0),
        classes: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _known(embedding=(embedding, ("positional", "fourier")), decoder=(decoder, ("standard", "skip")))
        _known(encoder=(encoder, ("standard", "skip", "residual")))
        self.base, self.classes, self.taps = base, classes, tuple(taps)
        self.encoder, self.decoder, self.stride = encoder, decoder, 2 ** (len(widths) - 1)
        fourier = embedding == "fourier"
        width, entering = 4 * base, 2 * base if fourier else base
        self.register_buffer("frequencies", torch.zeros(base) if fourier else None)
        self.label = nn.Linear(classes, entering) if classes else None
        self.clock = nn.ModuleList([nn.Linear(entering, width), nn.Linear(width, width)])

        def block(w: int, out: int, attends: bool = False, resample: str = "") -> Block:
            return Block(w, out, width, attends, resample, self.taps, dropout)

        self.enter = nn.Conv2d(channels, base, 3, padding=1)
        self.shrink, self.beside, self.down = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        w, aside, left = base, channels, [base]
        for level, out in enumerate(widths):
            if level:
                self.shrink.append(block(w, w, resample="shrink"))
                if encoder != "standard":
                    self.beside.append(nn.Conv2d(aside, w, 1 if encoder == "skip" else 3))
                    aside = w if encoder == "residual" else aside
                left.append(w)
            ins = [w] + [out] * (blocks - 1)
            self.down.append(nn.ModuleList([block(i, out, level in attention) for i in ins]))
            w, left = out, left + [out] * blocks
        self.middle = nn.ModuleList([block(w, w, True), block(w, w)])
        self.up, self.grow, self.leave = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths))):
            if level + 1 < len(widths):
                self.grow.insert(0, block(w, w, resample="grow"))
            ups, out = nn.ModuleList(), widths[level]
            for i in range(blocks + 1):
                ups.append(block(w + left.pop(), out, i == blocks and level in attention))
                w = out
            self.up.insert(0, ups)
            if level == 0 or decoder == "skip":
                self.leave.insert(0, nn.Sequential(_norm(w), nn.SiLU(), nn.Conv2d(w, channels, 3, padding=1)))

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        divided(u, self.stride)
        emb = self._embed(c_noise, cond, u)
        x, aside = self.enter(u), u
        kept = [x]
        for level, blocks in enumerate(self.down):
            if level:
                x = self.shrink[level - 1](x, emb)
                if self.encoder == "skip":
                    aside = resampled(aside, self.taps, "shrink")
                    x = x + self.beside[level - 1](aside)
                elif self.encoder == "residual":
                    x = aside = HALF * (x + self._reduced(aside, self.beside[level - 1]))
                kept.append(x)
            for block in blocks:  # type: ignore[union-attr, attr-defined]
                x = block(x, emb)
                kept.append(x)
        for block in self.middle:
            x = block(x, emb)
        out: Tensor | None = None
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                x = self.grow[level](x, emb)
                out = None if out is None else resampled(out, self.taps, "grow")
            for block in self.up[level]:  # type: ignore[union-attr, attr-defined]
                x = block(torch.cat([x, kept.pop()], 1), emb)
            if level == 0 or self.decoder == "skip":
                part = self.leave[level](x)
                out = part if out is None else out + part
        assert out is not None
        return out

    def _embed(self, c_noise: Tensor, cond: Any, u: Tensor) -> Tensor:
        if self.frequencies is None:
            emb = sinusoids(c_noise, self.base, endpoint=True, sine_first=True)
        else:
            angles = 2.0 * math.pi * c_noise[:, None] * self.frequencies  # type: ignore[operator]
            emb = torch.cat([angles.sin(), angles.cos()], 1)
        emb = emb.to(u.dtype)
        if self.label is not None:
            label = torch.full_like(c_noise, self.classes, dtype=torch.long) if cond is None else cond
            marks = F.one_hot(label, self.classes + 1)[:, : self.classes].to(u.dtype)
            emb = emb + self.label(marks * math.sqrt(self.classes))
        elif cond is not None:
            raise ValueError("this network has no classes: leave the condition out.")
        for layer in self.clock:
            emb = F.silu(layer(emb))
        return emb

    def _reduced(self, x: Tensor, conv: nn.Module) -> Tensor:
        """Convolution, then the filter and every second point, padded once by zeros."""
        assert isinstance(conv, nn.Conv2d)
        wide = F.conv2d(x, conv.weight, padding=1 + (len(self.taps) - 1) // 2)
        out = resampled(wide, self.taps, "shrink", padded=True)
        return out if conv.bias is None else out + conv.bias[:, None, None]


class Block(nn.Module):
    """A residual block, with resampling before its first convolution or attention after its last."""

    def __init__(
        self, width: int, out: int, emb: int, attends: bool, resample: str, taps: tuple[float, ...], dropout: float
    ) -> None:
        super().__init__()
        self.resample, self.taps, self.dropout = resample, taps, dropout
        self.norm0, self.norm1 = _norm(width), _norm(out)
        self.conv0, self.conv1 = nn.Conv2d(width, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.affine = nn.Linear(emb, out)
        self.skip = nn.Conv2d(width, out, 1) if resample or width != out else nn.Identity()
        self.norm2 = _norm(out) if attends else None
        if attends:
            self.qkv, self.proj = nn.Conv2d(out, 3 * out, 1), nn.Conv2d(out, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv0(self._resampled(F.silu(self.norm0(x)))) + self.affine(emb)[:, :, None, None]
        h = self.conv1(F.dropout(F.silu(self.norm1(h)), self.dropout, self.training))
        x = HALF * (self.skip(self._resampled(x)) + h)
        if self.norm2 is not None:
            mixed = attend(self.qkv(self.norm2(x)).flatten(2), 1, True).view_as(x)
            x = HALF * (x + self.proj(mixed))
        return x

    def _resampled(self, x: Tensor) -> Tensor:
        return resampled(x, self.taps, self.resample) if self.resample else x


def resampled(x: Tensor, taps: Sequence[float], way: str, *, padded: bool = False) -> Tensor:
    """Half ("shrink") or twice ("grow") the resolution by a separable filter, which keeps constants inside.

    Args:
        padded: x is padded already.
    """
    f = torch.tensor(taps, dtype=x.dtype, device=x.device)
    f = torch.outer(f, f) / f.sum() ** 2
    c, pad = x.shape[1], 0 if padded else (len(taps) - 1) // 2
    if way == "grow":
        return F.conv_transpose2d(x, (4.0 * f).expand(c, 1, -1, -1), groups=c, stride=2, padding=pad)
    return F.conv2d(x, f.expand(c, 1, -1, -1), groups=c, stride=2, padding=pad)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, width // 4), width, eps=1e-6)


def _known(**words: tuple[str, Sequence[str]]) -> None:
    for name, (word, known) in words.items():
        if word not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, got {word!r}.")
