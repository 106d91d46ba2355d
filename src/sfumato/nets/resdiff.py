"""ResDiff's networks: a small one that says the low frequencies, and a U-Net told what frequencies they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.haar import pyramid
from sfumato.nets.unet import ChannelNorm, Clock, UNet, pad_to, shuffle, unshuffle


class SmallCNN(nn.Module):
    """y + three convolutions on y folded by a factor, (B, C, H, W) both; y itself before training.

    Source: public code of Shang et al. 2023 (2303.08714), which sees the small picture and adds its enlargement (ours:
    the enlarged one, folded).
    """

    def __init__(self, channels: int = 3, factor: int = 4, widths: Sequence[int] = (64, 32)) -> None:
        super().__init__()
        self.factor, cells = factor, channels * factor**2
        first, second = widths
        self.layers = nn.Sequential(
            nn.Conv2d(cells, first, 3, padding=1), nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1), nn.ReLU(),
            nn.Conv2d(second, cells, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, y: Tensor) -> Tensor:
        change = shuffle(self.layers(unshuffle(pad_to(y, self.factor), self.factor)), self.factor)
        return y + change[..., : y.shape[-2], : y.shape[-1]]


class Splitter(nn.Module):
    """(low, high) features of m, (B, C, H, W) each: high = |IFFT(h FFT(m))|, low = m times a gate made of high.

    h = 1 - exp(-f^2 / (2 w^2)), f in cycles a pixel and 0 for the mean; w, between 1/2 and 1, is predicted from the
    amplitudes of each picture. (The public code centres the frequencies of h but not those of the FFT, so that its h
    is no high-pass filter: ours is.) Source: Shang et al. 2023 (2303.08714) and public code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = nn.Linear(channels, 1)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, m: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.fft.rfft2(m, norm="ortho")
        w = 0.5 + 0.5 * torch.sigmoid(self.width(spectrum.abs().mean((2, 3)).log1p()))
        rows, columns = m.shape[-2:]
        of = {"dtype": m.dtype, "device": m.device}
        f2 = torch.fft.fftfreq(rows, **of).square()[:, None] + torch.fft.rfftfreq(columns, **of).square()
        h = 1.0 - torch.exp(-f2 / (2.0 * w[:, :, None, None] ** 2))
        high = torch.fft.irfft2(h * spectrum, s=(rows, columns), norm="ortho").abs()
        return m * torch.sigmoid(self.gate(high)), high


class Guided(nn.Module):
    """x + attention of features x whose query is a picture of details: across channels, so that its cost is linear in
    the number of pixels (ours; the paper's is across positions). Nothing before training.

    Source: Shang et al. 2023 (2303.08714); Zamir et al. 2022 (2111.09881) for channels.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm, self.query = ChannelNorm(width), nn.Conv2d(channels, width, 1, bias=False)
        self.key_value, self.out = nn.Conv2d(width, 2 * width, 1, bias=False), nn.Conv2d(width, width, 1)
        self.heat = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, details: Tensor) -> Tensor:
        k, v = self.key_value(self.norm(x)).flatten(2).chunk(2, 1)
        q = self.query(details).flatten(2)
        weights = torch.softmax(self.heat * F.normalize(q, dim=2) @ F.normalize(k, dim=2).mT, 2)
        return x + self.out((weights @ v).reshape(x.shape))


class ResDiffNet(nn.Module):
    """`net(z, c_noise, {"anchor": m})`: a U-Net that sees z, m, z times a gate of the noise level, low and high of m.

    What skips upwards at each level but the finest is guided by m's Haar details of that size, the sum of the three
    bands.

    Args:
        net: a U-Net with 4 pictures beside z.
    """

    def __init__(self, net: UNet) -> None:
        super().__init__()
        if net.patch & (net.patch - 1):
            raise ValueError(f"Haar details have sizes of powers of two: patch is one too, got {net.patch}.")
        channels = net.channels
        self.net, self.first = net, int(math.log2(net.patch))
        self.clock, self.level = Clock(32), nn.Linear(32, channels)
        self.splitter = Splitter(channels)
        widths = [grow.out_channels for grow in net.grow]  # of the levels that skip
        self.guides = nn.ModuleList(Guided(channels, w) for w in widths[0 if self.first else 1 :])  # type: ignore[arg-type]

    def forward(self, z: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        m = cond["anchor"].to(z)
        gate = torch.sigmoid(self.level(F.silu(self.clock(c_noise))))[:, :, None, None]
        low, high = self.splitter(m)
        details = pyramid(pad_to(m, self.net.stride), self.first + len(self.net.grow) - 1)[1] if self.guides else []
        own = [sum(each.chunk(3, 1)) for each in details[max(self.first - 1, 0) :]]
        skipped: list[Any] = [] if self.first else [_as_it_is]
        skipped += [partial(guide, details=d) for guide, d in zip(self.guides, own, strict=True)]
        out: Tensor = self.net(z, c_noise, {"image": torch.cat([m, z * gate, low, high], 1)}, skipped=skipped)
        return out


def frequency_loss(x0: Tensor, m: Tensor, *, spectral: float = 0.2, details: float = 0.1, levels: int = 4) -> Tensor:
    """mean e^2 + spectral (mean Re^2 + mean Im^2 of FFT e) + details (sum of the mean squares of each Haar band), (B,).

    e = x_0 - m; the FFT and the wavelets are orthonormal, so that the second term is the first again (Parseval), and
    the third a heavier weight on details. Sides are cut to what 2^levels divides, or fewer levels taken.

    Source: Shang et al. 2023 (2303.08714); weights of the public code.
    """
    e = x0 - m
    loss = e.square().mean((1, 2, 3)) + spectral * torch.fft.fft2(e, norm="ortho").abs().square().mean((1, 2, 3))
    levels = min(levels, int(math.log2(min(e.shape[-2:]))))
    rows, columns = (n - n % 2**levels for n in e.shape[-2:])
    for bands in pyramid(e[..., :rows, :columns], levels)[1]:
        loss = loss + 3.0 * details * bands.square().mean((1, 2, 3))  # three bands of one size
    return loss


def _as_it_is(x: Tensor) -> Tensor:
    return x
