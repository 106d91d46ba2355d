"""A U-Net guided by the structure of a picture: what a small regression sees in grey, at low sizes, is added to its
encoder (Ren et al. 2023, 2212.01789)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.unet import UNet, pad_to


class Structure(nn.Module):
    """For each factor s: y_s = the mean over s x s pixels and the channels of y, features of it, and g_s(y_s), a guess
    of the clean picture's x_s.

    Args:
        widths: of the features at each factor.
        factors: s, in pixels.
        stride: pictures are padded by reflection to multiples of it, as the U-Net pads them.
    """

    def __init__(self, widths: Sequence[int], factors: Sequence[int], stride: int) -> None:
        super().__init__()
        self.factors, self.stride = tuple(factors), stride
        self.features = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, w, 3, padding=1), nn.SiLU(), nn.Conv2d(w, w, 3, padding=1), nn.SiLU())
            for w in widths
        )
        self.guesses = nn.ModuleList(nn.Conv2d(w, 1, 3, padding=1) for w in widths)

    def small(self, x: Tensor) -> list[Tensor]:
        """x_s for each factor, (B, 1, H / s, W / s)."""
        grey = pad_to(x.mean(1, keepdim=True), self.stride)
        return [F.avg_pool2d(grey, s) for s in self.factors]

    def forward(self, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(features, g_s(y_s)), one of each for each factor; g_s is y_s and what is learned beside it."""
        small = self.small(y)
        found = [net(each) for net, each in zip(self.features, small, strict=True)]
        guesses = [each + net(h) for net, each, h in zip(self.guesses, small, found, strict=True)]
        return found, guesses


class Structured(nn.Module):
    """`unet` with the features of cond["image"] added to its encoder from the second level on, each after a convolution
    that begins at 0: untrained, it is `unet` itself.

    Args:
        unet: two-dimensional, of two levels or more.
        widths: its widths.
    """

    def __init__(self, unet: UNet, widths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a structure of low sizes needs two levels or more, got the widths {tuple(widths)}.")
        self.unet = unet
        factors = [unet.patch * 2**level for level in range(1, len(widths))]
        self.structure = Structure(widths[1:], factors, unet.stride)
        self.joins = nn.ModuleList(nn.Conv2d(w, w, 1) for w in widths[1:])
        for p in self.joins.parameters():
            nn.init.zeros_(p)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        if cond is None:
            out: Tensor = self.unet(u, c_noise)
            return out
        features, _ = self.structure(cond["image"].to(u))
        joined = [join(h) for join, h in zip(self.joins, features, strict=True)]
        guided: Tensor = self.unet(u, c_noise, cond, [u.new_zeros(()), *joined])
        return guided
