"""TimeGrad's network: a small WaveNet along the series of one time step, closed to a ring."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from sfumato.nets.steps import StepEmbedding


class Ring(nn.Module):
    """net(u, step, cond) on vectors (B, C), with cond["state"] (B, state) what the past says of them.

    Convolutions run over neighbouring series, whose order therefore matters, and wrap around at the ends: those of the
    blocks around C + 4 places, the series and the two more at each end that the head takes away, so that there is a
    seam. The state becomes a second signal of C numbers. As in the public code, each block has a leaky ReLU after its
    last layer.

    On its way the state passes through `narrow` numbers. The paper has C / 2 of them, which for a few series is too few
    to say where each of them stands (of two series, one number): here at least 16 (ours).

    Source: Rasul et al. 2021 (2101.12072) figure 2 and public code.
    """

    def __init__(
        self,
        channels: int,
        state: int = 100,
        *,
        steps: int = 100,
        width: int = 8,
        blocks: int = 8,
        cycle: int = 2,
        frequencies: int = 16,
        hidden: int = 64,
        narrow: int | None = None,
    ) -> None:
        super().__init__()
        self.level = StepEmbedding(steps, frequencies, hidden, divisor=frequencies)
        middle = max(16, channels // 2) if narrow is None else narrow
        self.narrow, self.widen = nn.Linear(state, middle), nn.Linear(middle, channels)
        self.enter = nn.Conv1d(1, width, 1)
        self.blocks = nn.ModuleList(RingBlock(width, hidden, 2 ** (i % cycle)) for i in range(blocks))
        self.skip, self.leave = nn.Conv1d(width, width, 3), nn.Conv1d(width, 1, 3)
        for layer in (self.enter, self.skip):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.leave.weight)

    def forward(self, u: Tensor, level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        # Two more series at each end, which the two unpadded convolutions of the head take away again.
        h = _bent(self.enter(_wrapped(u[:, None], 2)))
        past = _bent(self.widen(_bent(self.narrow(cond["state"].to(u)))))
        past, emb = _wrapped(past[:, None], 2), self.level(level)
        skips: Tensor | float = 0.0
        for block in self.blocks:
            h, skip = block(h, past, emb)
            skips = skips + skip
        h = _bent(self.skip(skips / math.sqrt(len(self.blocks))))
        out: Tensor = self.leave(h)
        return out[:, 0]


class RingBlock(nn.Module):
    """A dilated convolution around the ring, gated, with a residual and a skip."""

    def __init__(self, width: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(width, 2 * width, 3, dilation=dilation)
        self.step, self.past = nn.Linear(hidden, width), nn.Conv1d(1, 2 * width, 1)
        self.leave = nn.Conv1d(width, 2 * width, 1)
        for layer in (self.past, self.leave):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, h: Tensor, past: Tensor, emb: Tensor) -> tuple[Tensor, Tensor]:
        """(residual stream, skip), each (B, width, C + 4)."""
        y = self.conv(_wrapped(h + self.step(emb)[..., None], self.dilation)) + self.past(past)
        gate, content = y.chunk(2, 1)
        residual, skip = _bent(self.leave(torch.sigmoid(gate) * torch.tanh(content))).chunk(2, 1)
        return (h + residual) / math.sqrt(2.0), skip


def _wrapped(x: Tensor, by: int) -> Tensor:
    """x (..., n) continued around the ring by `by` places at both ends, more than n places too."""
    index = torch.arange(-by, x.shape[-1] + by, device=x.device) % x.shape[-1]
    return x[..., index]


def _bent(x: Tensor) -> Tensor:
    return leaky_relu(x, 0.4)
