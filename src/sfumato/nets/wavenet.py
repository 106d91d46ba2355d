"""The dilated convolutions of DiffWave, and the parts that came of it share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.sinusoids import sinusoids


class WaveNet(nn.Module):
    """`net(u, c_noise, cond)` for a signal, u (B, 1, L): gated dilated convolutions, not causal.

    x = f(conv1(u)); in block i, with d = 2^(i mod cycle) and e = level(c_noise),

        (a, b) = conv3_d(x + W e) + conv_c(read(cond)),   (r, s_i) = conv1(sigmoid(a) tanh(b)),   x <- (x + r) / sqrt 2,

    and the answer is conv1(f(conv1(sum_i s_i / sqrt(blocks)))). One pass sees 1 + 2 sum d samples.

    Args:
        level: c_noise (B,) to `told` numbers.
        read: a condition to features at the rate of the signal, (B, beside, L); None: without one.
        beside: number of those features.
        taps: of conv_c, of dilation d where more than 1.
        activation: f.
        zero: the last weight begins at 0, so that the untrained answer is 0.

    Source: Kong et al. 2021 (2009.09761) section 3 and appendix C; public code for f and the order of the gate.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        cycle: int,
        level: nn.Module,
        told: int = 512,
        *,
        read: nn.Module | None = None,
        beside: int = 0,
        taps: int = 1,
        activation: Callable[[Tensor], Tensor] = F.relu,
        zero: bool = True,
    ) -> None:
        super().__init__()
        self.level, self.read, self.activation = level, read, activation
        self.enter = _conv(1, width, 1)
        dilations = [2 ** (i % cycle) for i in range(blocks)]
        self.blocks = nn.ModuleList(Block(width, d, told, beside if read else 0, taps) for d in dilations)
        self.skip, self.leave = _conv(width, width, 1), _conv(width, 1, 1)
        if zero:
            for p in self.leave.parameters():  # the bias too (ours): the code leaves it random
                nn.init.zeros_(p)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        x, told = self.activation(self.enter(u)), self.level(c_noise)
        beside = None if self.read is None else self.read(cond)
        total: Tensor | float = 0.0
        for block in self.blocks:
            x, skip = block(x, told, beside)
            total = total + skip
        out: Tensor = self.leave(self.activation(self.skip(total / math.sqrt(len(self.blocks)))))
        return out


class Block(nn.Module):
    """One gated convolution with its residual and its skip."""

    def __init__(self, width: int, dilation: int, told: int, beside: int, taps: int) -> None:
        super().__init__()
        self.conv = _conv(width, 2 * width, 3, dilation)
        self.level = nn.Linear(told, width)
        self.beside = _conv(beside, 2 * width, taps, dilation) if beside else None
        self.out = _conv(width, 2 * width, 1)

    def forward(self, x: Tensor, told: Tensor, beside: Tensor | None) -> tuple[Tensor, Tensor]:
        y = self.conv(x + self.level(told).unsqueeze(-1))
        if self.beside is not None:
            y = y + self.beside(beside)
        gate, value = y.chunk(2, 1)
        residual, skip = self.out(gate.sigmoid() * value.tanh()).chunk(2, 1)
        return (x + residual) / math.sqrt(2.0), skip


class Upsampler(nn.Module):
    """The entry `key` of a condition, frames (B, C, F), at the rate of the signal: (B, C, F prod(strides)).

    One transposed convolution of frequency and time for each stride s, kernel (3, 2 s), and a leaky ReLU of 0.4.
    Source: Kong et al. 2021 (2009.09761) appendix C, and public code.

    Raises:
        ValueError: for an odd stride, which has no centre.
    """

    def __init__(self, strides: Sequence[int], key: str = "mel") -> None:
        super().__init__()
        if any(s % 2 for s in strides):
            raise ValueError(f"strides are even, got {tuple(strides)}: their product is the hop.")
        self.key = key
        self.layers = nn.ModuleList(nn.ConvTranspose2d(1, 1, (3, 2 * s), (1, s), (1, s // 2)) for s in strides)

    def forward(self, cond: Any) -> Tensor:
        x = cond[self.key].unsqueeze(1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.4)
        return x.squeeze(1)


class Lifted(nn.Module):
    """The entry `key` of a condition, a signal (B, 1, L), as `width` features: f(conv1(y)).

    Source: Lee & Han 2021 (2104.02321) section 3.2.
    """

    def __init__(self, width: int, key: str, activation: Callable[[Tensor], Tensor] = F.silu) -> None:
        super().__init__()
        self.key, self.activation, self.conv = key, activation, _conv(1, width, 1)

    def forward(self, cond: Any) -> Tensor:
        return self.activation(self.conv(cond[self.key]))


class LevelEmbedding(nn.Module):
    """A real level, (B,), to `width` numbers: sinusoids of scale times it, then two layers with SiLU.

    Frequencies are 10000^(-j / half), sines first. Source: Lee & Han 2021 (2104.02321) section 3.1, public code.
    """

    def __init__(self, scale: float = 50000.0, half: int = 64, width: int = 512) -> None:
        super().__init__()
        self.scale, self.channels = scale, 2 * half
        self.first, self.last = nn.Linear(2 * half, width), nn.Linear(width, width)

    def forward(self, level: Tensor) -> Tensor:
        waves = sinusoids(self.scale * level, self.channels, sine_first=True).to(level)
        return F.silu(self.last(F.silu(self.first(waves))))


def strides_of(hop: int) -> tuple[int, int]:
    """The two even strides nearest to each other whose product is the hop.

    Raises:
        ValueError: if there are none.
    """
    for first in range(2 * (math.isqrt(hop) // 2), 0, -2):
        if hop % first == 0 and (hop // first) % 2 == 0:
            return first, hop // first
    raise ValueError(f"a hop is a product of two even strides, as 64, 256 or 300 are, got {hop}.")


def _conv(entering: int, leaving: int, taps: int, dilation: int = 1) -> nn.Conv1d:
    conv = nn.Conv1d(entering, leaving, taps, padding=dilation * (taps // 2), dilation=dilation)
    nn.init.kaiming_normal_(conv.weight)
    return conv
