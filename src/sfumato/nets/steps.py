"""The embedding of a noise level that counts steps, as in DiffWave and what came of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


class StepEmbedding(nn.Module):
    """Step n, 0 .. N - 1, to `width` numbers: sin and cos of n 10^(4 j / d), then two layers with SiLU.

    The frequencies reach 10^4, a hash of an integer: between steps the rows of the table are interpolated, as in
    DiffWave's fast sampling, since the sinusoids themselves mean nothing there. Steps outside are held to the ends.

    Args:
        steps: N, at least 2.
        half: number of frequencies, j = 0 .. half - 1.
        width: of the output.
        divisor: d; half - 1 by default, so that the last frequency is 10^4. TimeGrad's code has `half`.

    Source: Kong et al. 2021 (2009.09761) eq. 10 and appendix C; Tashiro et al. 2021 (2107.03502) eq. 13.
    """

    table: Tensor

    def __init__(self, steps: int, half: int = 64, width: int = 128, divisor: int | None = None) -> None:
        super().__init__()
        frequencies = 10.0 ** (4.0 * torch.arange(half, dtype=torch.float64) / (divisor or half - 1))
        angles = torch.arange(steps, dtype=torch.float64)[:, None] * frequencies
        self.register_buffer("table", torch.cat([angles.sin(), angles.cos()], 1).float(), persistent=False)
        self.first, self.last = nn.Linear(2 * half, width), nn.Linear(width, width)

    def forward(self, step: Tensor) -> Tensor:
        n = step.clamp(0, len(self.table) - 1)
        low = n.floor().long().clamp(max=len(self.table) - 2)
        rows = self.table[low].lerp(self.table[low + 1], (n - low)[..., None].to(self.table))
        return silu(self.last(silu(self.first(rows.to(step)))))
