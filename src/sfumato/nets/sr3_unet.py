"""The U-Net of the public re-implementation of SR3: its clock is the signal level, what its weights fit into.

Parameters carry the names of those files (`downs.1.res_block.block1.block.0.weight`), so that a state dict loads as it
is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sfumato.nets.ablated import Grow, attend, divided
from sfumato.nets.sinusoids import sinusoids


class SR3UNet(nn.Module):
    """`net(u, c_noise, cond)`: (B, channels, H, W), (B,) to (B, channels, H, W); c_noise is alpha(t), sqrt(abar_n).

    Args:
        channels: of the data.
        base: channels of the clock's sinusoids and of its embedding, and after the entrance.
        widths: feature channels of each level, the finest first.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: levels with self-attention of one head; the middle has it always.
        image: channels of the image condition, of the size of u, laid before the data; 0: none.
        groups: of the normalisation.
        dropout: in training.

    A condition is the image (B, image, H, W), or a dict with it as "image".

    Raises:
        ValueError: in a call, for a missing condition, or a size that the strides do not divide.

    Source: Saharia et al. 2021 (2104.07636) section 2.3, as in the public code of Janspiry; the clock: Chen et al. 2021
    (2009.00713).
    """

    def __init__(
        self,
        channels: int = 3,
        base: int = 64,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        blocks: int = 2,
        *,
        attention: Sequence[int] = (3,),
        image: int = 3,
        groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.base, self.image, self.stride = base, image, 2 ** (len(widths) - 1)

        def block(width: int, out: int, attends: bool) -> Attending:
            return Attending(width, out, base, groups, dropout, attends)

        self.noise_level_mlp = nn.ModuleList(
            [nn.Identity(), nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, base)]
        )
        self.downs: nn.ModuleList = nn.ModuleList([nn.Conv2d(channels + image, base, 3, padding=1)])
        w, left = base, [base]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.downs.append(block(w, width, level in attention))
                w = width
                left.append(w)
            if level + 1 < len(widths):
                self.downs.append(Shrink(w))
                left.append(w)
        self.mid = nn.ModuleList([block(w, w, True), block(w, w, False)])
        self.ups: nn.ModuleList = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                self.ups.append(block(w + left.pop(), widths[level], level in attention))
                w = widths[level]
            if level:
                self.ups.append(Grow(w, True))
        self.final_conv = Part(w, channels, groups)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Tensor | dict[str, Tensor] | None = None) -> Tensor:
        divided(u, self.stride)
        image = cond.get("image") if isinstance(cond, dict) else cond
        if (image is None) == bool(self.image):
            have = 'an image of the size of its data: give it as the condition "image", in model space'
            raise ValueError(f"this network has {have if self.image else 'no condition: leave it out'}.")
        x = u if image is None else torch.cat([image.to(u).expand(len(u), -1, -1, -1), u], 1)
        emb = sinusoids(c_noise, self.base, sine_first=True).to(u.dtype)
        for layer in self.noise_level_mlp:
            emb = layer(emb)
        kept = []
        for layer in self.downs:
            x = layer(x, emb) if isinstance(layer, Attending) else layer(x)
            kept.append(x)
        for layer in self.mid:
            x = layer(x, emb)
        for layer in self.ups:
            x = layer(torch.cat([x, kept.pop()], 1), emb) if isinstance(layer, Attending) else layer(x)
        out: Tensor = self.final_conv(x)
        return out


class Part(nn.Module):
    """Norm, SiLU, dropout, convolution."""

    def __init__(self, width: int, out: int, groups: int, dropout: float = 0.0) -> None:
        super().__init__()
        conv = nn.Conv2d(width, out, 3, padding=1)
        self.block = nn.Sequential(nn.GroupNorm(groups, width), nn.SiLU(), nn.Dropout(dropout), conv)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class Level(nn.Module):
    """The embedding, added through one linear layer."""

    def __init__(self, emb: int, out: int) -> None:
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(emb, out))

    def forward(self, emb: Tensor) -> Tensor:
        out: Tensor = self.noise_func(emb)[:, :, None, None]
        return out


class Residual(nn.Module):
    """Two parts with the embedding between them, and a skip."""

    def __init__(self, width: int, out: int, emb: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.noise_func = Level(emb, out)
        self.block1, self.block2 = Part(width, out, groups), Part(out, out, groups, dropout)
        self.res_conv = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        out: Tensor = self.res_conv(x) + self.block2(self.block1(x) + self.noise_func(emb))
        return out


class Attention(nn.Module):
    """Self-attention of one head over positions, with a residual."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1, bias=False), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(attend(self.qkv(self.norm(x)).flatten(2), 1, True).view_as(x))


class Attending(nn.Module):
    """A residual block, and attention if there is any."""

    def __init__(self, width: int, out: int, emb: int, groups: int, dropout: float, attends: bool) -> None:
        super().__init__()
        self.res_block = Residual(width, out, emb, groups, dropout)
        self.attn = Attention(out, groups) if attends else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        out: Tensor = self.attn(self.res_block(x, emb))
        return out


class Shrink(nn.Module):
    """Half the resolution, by a strided convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out
