"""Networks on sets of points: a map of each point by itself, and an encoder that no order changes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pointwise(nn.Module):
    """net(u, level, cond): the noise of each point of u (B, 3, P) by itself, told the level (B,) and the shape.

    Each layer is h <- (W h + w) sigmoid(G c + g) + B c with c = [l, sin l, cos l, z], l the level and z the code
    cond["code"] (B, code); leaky ReLUs between, and the input is added to the output.

    Source: Luo & Hu 2021 (2103.01458) section 4.2 and public code (ConcatSquash layers of FFJORD, 1810.01367).
    """

    def __init__(self, code: int, widths: tuple[int, ...] = (128, 256, 512, 256, 128)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Squash(a, b, code + 3) for a, b in pairwise((3, *widths, 3)))

    def forward(self, u: Tensor, level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        level = level.to(u).reshape(-1, 1).expand(len(u), 1)
        context = torch.cat([level, level.sin(), level.cos(), cond["code"].to(u)], 1)
        h = u.transpose(1, 2)
        for i, layer in enumerate(self.layers):
            h = layer(F.leaky_relu(h) if i else h, context)
        return u + h.transpose(1, 2)


class Squash(nn.Module):
    """(W h + w) sigmoid(G c + g) + B c, h (B, P, entering) and c (B, context)."""

    def __init__(self, entering: int, leaving: int, context: int) -> None:
        super().__init__()
        self.layer, self.gate = nn.Linear(entering, leaving), nn.Linear(context, leaving)
        self.bias = nn.Linear(context, leaving, bias=False)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        scaled: Tensor = self.layer(h) * torch.sigmoid(self.gate(context))[:, None]
        return scaled + self.bias(context)[:, None]


class PointNet(nn.Module):
    """x (B, 3, P) to the mean and the log-variance of a code, (B, code) each: layers on each point, then the maximum.

    Layer norms of each point's features stand for the paper's batch norms (ours): a row then depends on no other.

    Source: Qi et al. 2017 (1612.00593) eq. 1; Luo & Hu 2021 (2103.01458) section 4.2 and public code, for the widths.
    """

    def __init__(self, code: int, widths: tuple[int, ...] = (128, 128, 256, 512)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((3, *widths)))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.mean, self.log_var = (_head(widths[-1], code) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x.transpose(1, 2)
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            h = norm(layer(F.relu(h) if i else h))
        top = h.amax(1)
        return self.mean(top), self.log_var(top)


def _head(width: int, code: int) -> nn.Sequential:
    """Three layers, each of half the width of the one before."""
    half, quarter = width // 2, width // 4
    layers = [nn.Linear(width, half), nn.LayerNorm(half), nn.ReLU(), nn.Linear(half, quarter), nn.LayerNorm(quarter)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(quarter, code))
