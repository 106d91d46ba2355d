"""Kernels of blurs, sum 1."""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor

from sfumato.noise import Noise


def normal(width: int, std: float, *, radius: int | None = None) -> Tensor:
    """A normal kernel of `width` taps centred at floor(width / 2), float64; beyond `radius` taps are 0."""
    x = torch.arange(width, dtype=torch.float64) - width // 2
    taps = torch.exp(-0.5 * (x / std) ** 2)
    if radius is not None:
        taps = torch.where(x.abs() <= radius, taps, 0.0)
    return taps / taps.sum()


def motion(noise: Noise, width: int = 61, intensity: float = 0.5) -> Tensor:
    """A random camera shake, (width, width), float64: a smooth random walk drawn with one unit of light.

    Steps of Beta(1, 30) (1 - intensity) diagonals until 0.75 (u + v) diagonals are done, u ~ U(0, 1), v ~ U(0,
    intensity^2); turns of a triangular law whose sign flips with probability Beta(2, 20), up to a largest angle
    U(0, intensity pi); about its own centre, in a random direction. Light is spread over the four pixels around each
    point of the path, in proportion to length (ours: the public generator draws an even line and scales it down).

    Args:
        intensity: 0 straight, towards 1 long and crooked; in [0, 1).

    Source: the kernels of DPS (2209.14687): 61 x 61, intensity 0.5, of the public generator that its code uses.
    """
    if width < 1 or not 0.0 <= intensity < 1.0:
        raise ValueError(f"a width of at least 1 and an intensity in [0, 1) are needed, got {width} and {intensity}.")
    diagonal, steps = width * math.sqrt(2), math.ceil(100 * (1 + intensity**2) / (1 - intensity))
    u = noise.uniform(torch.empty(5, dtype=torch.float64))
    draws = noise.uniform(torch.empty(3, steps, dtype=torch.float64))
    g = noise.gamma(torch.tensor([2.0, 20.0], dtype=torch.float64))
    length = 0.75 * diagonal * float(u[0] + intensity**2 * u[1])
    largest = math.pi * intensity * u[2]
    step = (1 - (1 - draws[0]) ** (1 / 30)) * (1 - intensity) * diagonal
    low, high = (draws[1] * intensity).sqrt(), 1 - ((1 - draws[1]) * (1 - intensity)).sqrt()
    turn = largest * torch.where(draws[1] < intensity, low, high)
    flips = torch.where(draws[2] < g[0] / g.sum(), -1.0, 1.0)
    angle = turn * torch.cumprod(flips, 0) * torch.where(u[3] < 0.5, -1.0, 1.0)
    path = torch.polar(step, angle).cumsum(0)[: max(1, int((step.cumsum(0) <= length).sum()))]
    # 8 points on each step, which carry its length
    starts = torch.cat([torch.zeros_like(path[:1]), path[:-1]])
    light = (path - starts).abs()[:, None].expand(-1, 8).flatten()
    points = (starts[:, None] + (path - starts)[:, None] * ((torch.arange(8) + 0.5) / 8)).flatten()
    points = (points - (light * points).sum() / light.sum()) * torch.exp(1j * math.pi * u[4]) + (1 + 1j) * (width // 2)
    return _drawn(points, light, width)


def disc(width: int, radius: float) -> Tensor:
    """An even disc, (width, width), float64: a lens out of focus. A tap is the share of its pixel that the disc covers,
    on 16 x 16 points of it."""
    _positive("disc", radius=radius)
    at = (torch.arange(16 * width, dtype=torch.float64) + 0.5) / 16 - 0.5 - width // 2
    inside = (torch.hypot(at[:, None], at[None]) <= radius).double()
    taps = inside.reshape(width, 16, width, 16).mean((1, 3))
    return taps / taps.sum()


def line(width: int, length: float, angle: float = 0.0) -> Tensor:
    """An even line about the middle, (width, width), float64: a steady motion of `length` pixels.

    Args:
        angle: radians from the row axis towards the first row, as in a picture seen: pi / 2 is upright.
    """
    _positive("line", length=length)
    count = 8 * math.ceil(length) + 1
    along = length * ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5)
    return _drawn(along * cmath.rect(1.0, -angle) + (1 + 1j) * (width // 2), torch.ones_like(along), width)


def oval(width: int, long: float, short: float, angle: float = 0.0) -> Tensor:
    """A normal kernel, (width, width), float64, of two standard deviations: `long` along `angle` (as in `line`)."""
    _positive("oval", long=long, short=short)
    at = torch.arange(width, dtype=torch.float64) - width // 2
    u = at[None] * math.cos(angle) - at[:, None] * math.sin(angle)
    v = at[None] * math.sin(angle) + at[:, None] * math.cos(angle)
    taps = torch.exp(-0.5 * ((u / long) ** 2 + (v / short) ** 2))
    return taps / taps.sum()


def family(width: int, kind: str = "all") -> Tensor:
    """Kernels of one kind, (K, width, width), in steps that a picture can tell apart: what a blind method chooses from.

    "defocus": discs of radius 0.5, 0.75, ... up to the border; "motion": lines of length 1, 2, ... up to the width, in
    16 directions; "gaussian": round normal kernels of std 0.5, 0.75, ... up to a fifth of the width; "all" of them.

    Raises:
        ValueError: for another kind.
    """
    half = width // 2
    kinds = {
        "defocus": [disc(width, 0.5 + 0.25 * i) for i in range(4 * half - 1)],
        "motion": [line(width, n, math.pi * i / 16) for n in range(1, width + 1) for i in range(16)],
        "gaussian": [oval(width, 0.5 + 0.25 * i, 0.5 + 0.25 * i) for i in range(1 + int(0.8 * width) - 2)],
    }
    if kind != "all" and kind not in kinds:
        raise ValueError(f"kernels are of the kind {', '.join(kinds)} or all, got {kind!r}.")
    return torch.stack([k for name, members in kinds.items() if kind in (name, "all") for k in members])


def _drawn(points: Tensor, light: Tensor, width: int) -> Tensor:
    """The picture of points (column + i row) with these amounts of light, spread over the four pixels around each."""
    corner = torch.stack([points.imag, points.real]).floor()
    share = torch.stack([points.imag, points.real]) - corner
    kernel = torch.zeros(width * width, dtype=torch.float64)
    for i in (0, 1):
        for j in (0, 1):
            row, column = corner[0].long() + i, corner[1].long() + j
            inside = (row >= 0) & (row < width) & (column >= 0) & (column < width)
            weight = light * (share[0] if i else 1 - share[0]) * (share[1] if j else 1 - share[1])
            kernel.index_add_(0, (row * width + column)[inside], weight[inside])
    return (kernel / kernel.sum()).reshape(width, width)


def _positive(name: str, **values: float) -> None:
    for key, value in values.items():
        if not value > 0.0:
            raise ValueError(f"{name}: {key} is positive, got {value}.")
