"""Residual-in-residual dense blocks: features of a small picture, and the large one that they make."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import pad_to, shuffle, unshuffle

KEPT = 0.2  # share of a block's change that is let through


class Dense(nn.Module):
    """x + 0.2 f(x), f five convolutions each of which sees all before it. Source: Wang et al. 2018 (1809.00219)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        growth = width // 2
        self.layers = nn.ModuleList(
            nn.Conv2d(width + i * growth, width if i == 4 else growth, 3, padding=1) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for layer in self.layers[:4]:
            seen = torch.cat([seen, F.leaky_relu(layer(seen), 0.2)], 1)
        return torch.add(x, self.layers[4](seen), alpha=KEPT)


class RRDB(nn.Module):
    """y, enlarged by a factor s before, to x_0: y + F(features(y)), at 1/s of its size inside.

    The published network sees the small picture; ours sees all the numbers of the enlarged one, s^2 of them at each
    place of the small one (ours), and so serves damages other than shrinking too.

    Args:
        channels: of y.
        factor: s.
        width: features of every layer.
        blocks: each of three dense blocks.

    Source: Wang et al. 2018 (1809.00219); sizes of the public code of Li et al. 2022 (2104.14951).
    """

    def __init__(self, channels: int = 3, factor: int = 4, width: int = 32, blocks: int = 8) -> None:
        super().__init__()
        self.factor, self.width, cells = factor, width, channels * factor**2
        self.enter = nn.Conv2d(cells, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(*[Dense(width) for _ in range(3)]) for _ in range(blocks))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, cells, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @property
    def tapped(self) -> int:
        """Channels of `features`: the width for every third of the outputs of the blocks and the trunk."""
        return self.width * ((len(self.blocks) + 1) // 3)

    def features(self, y: Tensor) -> Tensor:
        """(B, tapped, H / s, W / s), sides rounded up."""
        return torch.cat(self._outputs(y)[2::3], 1)

    def forward(self, y: Tensor) -> Tensor:
        x = shuffle(self.leave(self._outputs(y)[-1]), self.factor)
        return y + x[..., : y.shape[-2], : y.shape[-1]]

    def _outputs(self, y: Tensor) -> list[Tensor]:
        x = first = self.enter(unshuffle(pad_to(y, self.factor), self.factor))
        found = []
        for block in self.blocks:
            x = torch.add(x, block(x), alpha=KEPT)
            found.append(x)
        return [*found, first + self.trunk(x)]


class Projected(nn.Module):
    """RRDB's features of y at its own size, (B, width, H, W): one transposed convolution of kernel 2 s and stride s.

    The encoder stands still: no gradient reaches it. Source: public code of Li et al. 2022 (2104.14951).
    """

    def __init__(self, encoder: RRDB, width: int) -> None:
        super().__init__()
        if encoder.tapped == 0:
            raise ValueError(f"every third output is taken: 2 blocks at least, got {len(encoder.blocks)}.")
        s = encoder.factor
        self.encoder = encoder
        self.grow = nn.ConvTranspose2d(encoder.tapped, width, 2 * s, s, padding=(s + 1) // 2, output_padding=s % 2)

    def forward(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.encoder.features(y)
        grown: Tensor = self.grow(features)[..., : y.shape[-2], : y.shape[-1]]
        return grown
