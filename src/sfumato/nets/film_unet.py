"""WaveGrad's network: mel frames raised to a signal, modulated at each rate by the noisy signal and its level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.sinusoids import sinusoids


class FilmUNet(nn.Module):
    """`net(u, c_noise, cond)` for u (B, 1, L) and cond["mel"] (B, mels, L / prod(factors)).

    Up: mel -> conv3 -> one `Up` for each factor -> conv3. Down: u -> conv5 -> one `Down` for each factor but the first,
    in reverse. At each rate a `Film` of what is on the way down gives scale and shift to the way up.

    Args:
        mels, before: channels of the frames, and after their first convolution.
        factors: of the ways up; their product is the hop.
        widths: channels of the ways up, one for each factor.
        enter, downs: channels after the first convolution of u and of each way down (one fewer than the factors).
        repeats: 2: each way up has a second one of factor 1 behind it (Large).

    Source: Chen et al. 2021 (2009.00713) section 3 and figures 3 and 4; order of affine, leaky ReLU and convolution as
    in the community's code (ivanvovk), which has three modulated convolutions in each way up.

    Raises:
        ValueError: if widths and downs are not as many as the factors say.
    """

    def __init__(
        self,
        mels: int,
        before: int,
        factors: Sequence[int],
        widths: Sequence[int],
        enter: int,
        downs: Sequence[int],
        repeats: int = 1,
    ) -> None:
        super().__init__()
        if len(widths) != len(factors) or len(downs) != len(factors) - 1:
            raise ValueError(
                f"{len(factors)} factors need as many widths and one fewer downs, got {len(widths)} and {len(downs)}."
            )
        self.repeats = repeats
        self.mel, self.leave = _conv(mels, before, 3), _conv(widths[-1], 1, 3)
        entering = [before, *widths[:-1]]
        small = max(len(factors) - 3, 1)  # of five, the first two
        dilations = [(1, 2, 1, 2) if i < small else (1, 2, 4, 8) for i in range(len(factors))]
        self.ups = nn.ModuleList(Up(*args) for args in zip(entering, widths, factors, dilations, strict=True))
        self.again = nn.ModuleList(
            Up(width, width, 1, d) for width, d in zip(widths, dilations, strict=True) for _ in range(repeats - 1)
        )
        self.enter = _conv(1, enter, 5)
        rates = list(factors[1:])[::-1]
        self.downs = nn.ModuleList(Down(*args) for args in zip([enter, *downs[:-1]], downs, rates, strict=True))
        self.films = nn.ModuleList(Film(*args) for args in zip([enter, *downs], list(widths)[::-1], strict=True))

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any) -> Tensor:
        x = self.enter(u)
        told = [self.films[0](x, c_noise)]
        for down, film in zip(self.downs, self.films[1:], strict=True):  # type: ignore[arg-type]
            x = down(x)
            told.append(film(x, c_noise))
        y = self.mel(cond["mel"])
        for i, up in enumerate(self.ups):
            scale, shift = told[-1 - i]
            y = up(y, scale, shift)
            for again in list(self.again)[i * (self.repeats - 1) : (i + 1) * (self.repeats - 1)]:
                y = again(y, scale, shift)
        out: Tensor = self.leave(y)
        return out


class Up(nn.Module):
    """Two residual blocks of two convolutions each, the first at a higher rate; all but the first are modulated."""

    def __init__(self, entering: int, leaving: int, factor: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.factor = factor
        self.first = _conv(entering, leaving, 3, dilations[0])
        self.straight = _conv(entering, leaving, 1)
        self.convs = nn.ModuleList(_conv(leaving, leaving, 3, d) for d in dilations[1:])

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        def modulated(i: int, z: Tensor) -> Tensor:
            found: Tensor = self.convs[i](_leaky(scale * z + shift))
            return found

        size = x.shape[-1] * self.factor
        y = modulated(0, self.first(_resized(_leaky(x), size))) + _resized(self.straight(x), size)
        return y + modulated(2, modulated(1, y))


class Down(nn.Module):
    """A residual block of three dilated convolutions at a lower rate."""

    def __init__(self, entering: int, leaving: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.straight = _conv(entering, leaving, 1)
        widths = (entering, leaving, leaving)
        self.convs = nn.ModuleList(_conv(w, leaving, 3, d) for w, d in zip(widths, (1, 2, 4), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1] // self.factor
        y = _resized(x, size)
        for conv in self.convs:
            y = conv(_leaky(y))
        return y + _resized(self.straight(x), size)


class Film(nn.Module):
    """(scale, shift) of features and level: leaky conv3, plus sinusoids of 5000 level, then a conv3 for each."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.conv = _conv(entering, entering, 3)
        self.scale, self.shift = _conv(entering, leaving, 3), _conv(entering, leaving, 3)

    def forward(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        waves = sinusoids(5000.0 * level, x.shape[1], sine_first=True).to(x)
        told = _leaky(self.conv(x)) + waves.unsqueeze(-1)
        return self.scale(told), self.shift(told)


def _conv(entering: int, leaving: int, taps: int, dilation: int = 1) -> nn.Conv1d:
    conv = nn.Conv1d(entering, leaving, taps, padding=dilation * (taps // 2), dilation=dilation)
    nn.init.orthogonal_(conv.weight)
    return conv


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def _resized(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=size, mode="linear", align_corners=False)
