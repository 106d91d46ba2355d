"""Rain, snow and haze (ours: simple models, every step of which is written here; the papers' sets are rendered)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.data.damages.base import Damage, Range, blurred, drawn, field, uniforms
from sfumato.noise import Noise

LONGEST = 31  # pixels of a streak
STEEPEST = 30.0  # degrees from the vertical


@dataclass(frozen=True)
class Rain(Damage):
    """Streaks: y = 1 - (1 - x) (1 - 0.8 s), s = min(1, drops * streak).

    Each pixel is a drop with probability p, of brightness U(0.5, 1). A streak is a segment of L ~ U{11..31} pixels at
    an angle U(-30, 30) degrees from the vertical, 4 L points of it laid down bilinearly and blurred by 0.7 pixels, its
    maximum 1; length and angle are one for a picture.

    Args:
        density: p, drawn evenly in its logarithm.
    """

    density: Range = (0.002, 0.012)
    turns = False

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        return {"image": 1.0 - (1.0 - x) * (1.0 - 0.8 * self.streaks(x, noise))}

    def streaks(self, x: Tensor, noise: Noise) -> Tensor:
        """s, (1, H, W)."""
        u = uniforms(noise, 3)
        length = 11 + int(u[0] * (LONGEST - 10))
        kernel = streak(length, math.radians(STEEPEST) * (2.0 * float(u[1]) - 1.0))
        r = kernel.shape[-1] // 2
        h, w = x.shape[1] + 2 * r, x.shape[2] + 2 * r  # drops outside reach in
        falls = noise.uniform(torch.empty(2, h, w))
        drops = torch.where(falls[0] < drawn(u[2], self.density, log=True), 0.5 + 0.5 * falls[1], 0.0)
        return F.conv2d(drops[None, None], kernel.float()[None, None])[0].clamp(max=1.0)


def streak(length: int, angle: float) -> Tensor:
    """A segment of this length in pixels and angle (radians) from the vertical, (K, K), float64, its maximum 1."""
    r = length // 2 + 3
    along = (torch.arange(4 * length, dtype=torch.float64) + 0.5) / 4 - length / 2
    light = torch.zeros(2 * r + 1, 2 * r + 1, dtype=torch.float64)
    for row, column in zip((r + along * math.cos(angle)).tolist(), (r + along * math.sin(angle)).tolist(), strict=True):
        i, j = math.floor(row), math.floor(column)
        a, b = row - i, column - j
        light[i, j] += (1 - a) * (1 - b)
        light[i + 1, j] += a * (1 - b)
        light[i, j + 1] += (1 - a) * b
        light[i + 1, j + 1] += a * b
    light = blurred(light, 0.7).clamp(min=0.0)
    return light / light.max()


@dataclass(frozen=True)
class Snow(Damage):
    """Flakes of three sizes: y = x (1 - s) + 0.98 s, s = 1 - prod_i (1 - g_i).

    g_i: each pixel is a flake with probability q (0.008, 0.0025, 0.0006), brightness U(0.5, 1), blurred by 0.8, 1.6, 3
    pixels and multiplied by 2 pi std^2, so that one flake keeps its brightness; at most 1.

    Args:
        amount: factor of the three probabilities.
    """

    amount: Range = (0.5, 2.0)

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        amount = drawn(uniforms(noise, 1)[0], self.amount, log=True)
        clear = torch.ones(1, *x.shape[1:])
        for q, std in ((8e-3, 0.8), (2.5e-3, 1.6), (6e-4, 3.0)):
            falls = noise.uniform(torch.empty(2, *x.shape[1:]))
            flakes = torch.where(falls[0] < amount * q, 0.5 + 0.5 * falls[1], 0.0)
            clear = clear * (1.0 - (blurred(flakes, std) * (2.0 * math.pi * std**2)).clamp(0.0, 1.0))
        return {"image": x * clear + 0.98 * (1.0 - clear)}


@dataclass(frozen=True)
class Haze(Damage):
    """y = t x + (1 - t) A, t = exp(-beta d), with a depth that is a proxy: far at the top, rough as objects are.

    d = clip((1 - row / (H - 1)) + 0.15 f, 0, 1.3), f a surface of length 24 pixels.

    Args:
        beta: drawn evenly in its logarithm.
        air: A, one draw and +-`tint` for each channel of it.
    """

    beta: Range = (0.6, 2.4)
    air: Range = (0.8, 1.0)
    tint: float = 0.02
    turns = False

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        clear, air = self.veil(x, noise)
        return {"image": clear * x + (1.0 - clear) * air}

    def veil(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """t (1, H, W) and A (C, 1, 1)."""
        u = uniforms(noise, 2 + len(x))
        h = x.shape[1]
        rows = 1.0 - torch.arange(h) / max(h - 1, 1)
        depth = (rows[:, None] + 0.15 * field((h, x.shape[2]), 24.0, noise)).clamp(0.0, 1.3)
        tints = self.tint * (2.0 * u[2:] - 1.0)
        air = (drawn(u[1], self.air) + tints).clamp(0.0, 1.0).to(x).reshape(-1, 1, 1)
        return torch.exp(-drawn(u[0], self.beta, log=True) * depth)[None], air


@dataclass(frozen=True)
class RainFog(Damage):
    """Rain behind haze: y = t rain(x) + (1 - t) A.

    Args:
        rain, haze: the two, with their settings.
    """

    rain: Rain = Rain()
    haze: Haze = Haze((0.6, 0.6))
    turns = False

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        return self.haze.apply(self.rain.apply(x, noise)["image"], noise)
