"""Camera shake, low resolution, and the chain of damages that pictures from the net have been through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.data.damages.base import Damage, Range, drawn, rounded, uniforms
from sfumato.data.damages.pixels import as_jpeg
from sfumato.data.resizing import resized
from sfumato.noise import Noise


@dataclass(frozen=True)
class Motion(Damage):
    """A random walk of the camera, a mirrored border, and noise of 0.01.

    64 points: v <- 0.9 v + 0.45 n, position + v; centred on their mean, scaled so that the largest coordinate is
    (k - 3) / 2, laid down bilinearly on k x k taps.

    Args:
        width: k, odd, drawn evenly among those between the two ends.
    """

    width: Range = (9.0, 25.0)

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        k = 2 * round((drawn(uniforms(noise, 1)[0], self.width) - 1) / 2) + 1
        taps = walk(k, noise).to(x)
        seen = convolved(x, taps)
        return {"image": seen + 0.01 * noise.normal(x)}


def walk(k: int, noise: Noise) -> Tensor:
    """The taps of a random walk of 64 points, (k, k), float64, their sum 1."""
    pushes = 0.45 * noise.normal(torch.empty(64, 2, dtype=torch.float64))
    speed, points = torch.zeros(2, dtype=torch.float64), []
    at = torch.zeros(2, dtype=torch.float64)
    for push in pushes:
        speed = 0.9 * speed + push
        at = at + speed
        points.append(at)
    path = torch.stack(points)
    path = path - path.mean(0)
    path = path * ((k - 3) / 2 / path.abs().max()) + k // 2
    taps = torch.zeros(k, k, dtype=torch.float64)
    low = path.floor().long()
    a, b = (path - low).T
    for di, dj, weight in ((0, 0, (1 - a) * (1 - b)), (1, 0, a * (1 - b)), (0, 1, (1 - a) * b), (1, 1, a * b)):
        taps.index_put_((low[:, 0] + di, low[:, 1] + dj), weight, accumulate=True)
    return taps / taps.sum()


def convolved(x: Tensor, taps: Tensor) -> Tensor:
    """x (C, H, W) with these odd taps, borders mirrored (a picture smaller than the taps repeats its edge)."""
    r = taps.shape[-1] // 2
    mode = "reflect" if min(x.shape[1:]) > r else "replicate"
    return F.conv2d(F.pad(x[None], (r, r, r, r), mode=mode).transpose(0, 1), taps[None, None].flip(2, 3)).transpose(
        0, 1
    )[0]


@dataclass(frozen=True)
class Enlarge(Damage):
    """Bicubic reduction by the factor, 8 bits, and the same bicubic back up: what an enlargement begins with.

    Args:
        factor: s, 1 or more.
    """

    factor: float = 4.0

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        return {"image": resized(self.small(x), tuple(x.shape[1:]), self.factor)}

    def small(self, x: Tensor) -> Tensor:
        """The small picture, (C, ceil(H / s), ceil(W / s))."""
        size = (math.ceil(x.shape[1] / self.factor), math.ceil(x.shape[2] / self.factor))
        return rounded(resized(x, size, 1.0 / self.factor))


@dataclass(frozen=True)
class Real(Damage):
    """Twice: blur, resize, noise, JPEG; then a quarter of the size and JPEG, in either order; then bicubic back up.

    A pass blurs (15 x 15 taps, axis stds U(0.2, 2) and U(0.2, 1.2) in the second, any angle, equal axes with
    probability 0.6; the second with probability 0.8), resizes by U(0.5, 1.3) (area, bilinear, bicubic alike), adds
    Gaussian noise U(1, 15) / 255 or Poisson noise of K = 255 / U(0.05, 2) (each half of the time; grey with
    probability 0.4) and stores at quality U{40..95}.

    Source: after Wang et al. 2021 (2107.10833), milder, as Wang et al. 2024 (2305.07015) take it (ours in its numbers).
    """

    factor: float = 4.0

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        size, y = tuple(x.shape[1:]), x
        for wide, sure in ((2.0, 1.0), (1.2, 0.8)):
            u = uniforms(noise, 12)
            if u[0] < sure:
                a, b = (drawn(v, (0.2, wide)) for v in u[1:3])
                y = convolved(y, gaussian(15, a, a if u[3] < 0.6 else b, math.pi * float(u[4])).to(y))
            scale = drawn(u[5], (0.5, 1.3))
            mode = ("area", "bilinear", "bicubic")[int(3 * u[6])]
            shape = [max(1, round(n * scale)) for n in y.shape[1:]]
            smooth = {} if mode == "area" else {"antialias": True}
            y = F.interpolate(y[None], shape, mode=mode, **smooth)[0].clamp(0.0, 1.0)  # type: ignore[arg-type]
            like = y[:1] if u[7] < 0.4 else y
            if u[8] < 0.5:
                y = y + drawn(u[9], (1.0, 15.0)) / 255 * noise.normal(like)
            else:
                k = 255 / drawn(u[9], (0.05, 2.0))
                light = like if len(like) == len(y) else y.mean(0, keepdim=True)
                y = y + noise.poisson(k * light) / k - light
            y = as_jpeg(y.clamp(0.0, 1.0), 40 + int(56 * u[10]))
        u = uniforms(noise, 2)
        last = 40 + int(56 * u[1])
        small = [max(1, math.ceil(n / self.factor)) for n in size]
        if u[0] < 0.5:
            y = as_jpeg(y, last)
        y = F.interpolate(y[None], small, mode="bicubic", antialias=True)[0].clamp(0.0, 1.0)
        if u[0] >= 0.5:
            y = as_jpeg(y, last)
        return {"image": resized(rounded(y), size, self.factor)}


def gaussian(width: int, a: float, b: float, angle: float) -> Tensor:
    """Gaussian taps with stds a and b along two axes, the first at this angle, (width, width), float64, sum 1."""
    at = torch.arange(width, dtype=torch.float64) - width // 2
    i, j = torch.meshgrid(at, at, indexing="ij")
    along, across = i * math.cos(angle) + j * math.sin(angle), j * math.cos(angle) - i * math.sin(angle)
    taps = torch.exp(-0.5 * ((along / a) ** 2 + (across / b) ** 2))
    return taps / taps.sum()
