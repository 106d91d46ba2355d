"""Shapes that damage a picture: strokes and writing, as masks that are true where they cover it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sfumato.noise import Noise

# Segments of a figure in a cell of height 1 and width 0.5: (top, left, bottom, right) of its seven bars
_BARS = ((0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 1, 1), (1, 0, 1, 1), (1, 0, 2, 0), (1, 1, 2, 1), (2, 0, 2, 1))
# Which bars make 0 .. 9
_FIGURES = (
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
)


def strokes(shape: tuple[int, int], noise: Noise, missing: tuple[float, float], width: float) -> Tensor:
    """Random walks of a round brush until the covered share lies within `missing`, (H, W), bool.

    Each stroke starts anywhere and goes on in a direction that drifts; it is laid point by point and stops where the
    share enters the bounds, so that a fine brush is needed for narrow bounds.
    """
    low, high = missing
    if not 0.0 < low < high <= 1.0 or width <= 0.0:
        raise ValueError(f"bounds 0 < low < high <= 1 and a brush width above 0 are needed, got {missing} and {width}.")
    short, (H, W) = min(shape), shape
    radius = max(0.5, 0.5 * width * short)
    rows, columns = torch.arange(H)[:, None], torch.arange(W)
    covered = torch.zeros(shape, dtype=torch.bool)
    while True:
        u = noise.uniform(torch.empty(3, dtype=torch.float64))
        at, angle = [float(u[0]) * H, float(u[1]) * W], float(u[2]) * 2 * math.pi
        for bend in (noise.uniform(torch.empty(max(4, int(0.6 * short / radius)), dtype=torch.float64)) - 0.5).tolist():
            covered |= (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= radius**2
            share = float(covered.double().mean())
            if share > high:
                raise ValueError(f"one brush point passes the bounds {missing}: use a finer brush or wider bounds.")
            if share >= low:
                return covered
            angle += 1.6 * bend
            at = [at[0] + radius * math.sin(angle), at[1] + radius * math.cos(angle)]


def text(shape: tuple[int, int], noise: Noise, height: int) -> Tensor:
    """Lines of random figures with blanks between words, (H, W), bool; bars are a seventh of `height` thick."""
    if not 7 <= height <= min(shape):
        raise ValueError(f"figures of 7 to {min(shape)} pixels fit {shape}, got {height}.")
    pen, half, wide = max(1, height // 7), (height - max(1, height // 7)) // 2, height // 2
    covered = torch.zeros(shape, dtype=torch.bool)
    step_y, step_x = height + height // 2, wide + 2 * pen
    lines, letters = 1 + (shape[0] - height) // step_y, 1 + (shape[1] - wide) // step_x
    which = (noise.uniform(torch.empty(lines, letters)) * 11).long().tolist()  # 10 is a blank
    for line, row in enumerate(which):
        for letter, figure in enumerate(row):
            top, left = line * step_y, letter * step_x
            for bar, on in zip(_BARS, _FIGURES[figure] if figure < 10 else "0" * 7, strict=True):
                if on == "1":
                    r0, c0, r1, c1 = bar[0] * half, bar[1] * (wide - pen), bar[2] * half, bar[3] * (wide - pen)
                    covered[top + r0 : top + r1 + pen, left + c0 : left + c1 + pen] = True
    return covered
