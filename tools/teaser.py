"""Draws docs/images/process.png: a mixture of normals becoming noise, and noise becoming the mixture again.

Top row: one draw of x_0, moved along t by the marginals of `LinearBeta`. Bottom row: the same number of fresh draws of
the prior, brought back by DPM-Solver++ 2M in 20 calls of the exact denoiser. Run: `make docs`.
"""

from __future__ import annotations

import colorsys
import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import sfumato as sf

PANEL, GAP, LEFT, POINTS, REACH = 140, 6, 72, 12000, 2.6
SHOWN = (0.0, 0.02, 0.05, 0.1, 0.3, 1.0)


def spiral() -> sf.MixtureWorld:
    """Sixty round components along two arms, in two dimensions."""
    angle = torch.linspace(0.6, 2.6 * math.pi, 30).repeat(2)
    side = torch.tensor([0.0, math.pi]).repeat_interleave(30)
    radius = 0.24 * angle
    means = radius[:, None] * torch.stack([torch.cos(angle + side), torch.sin(angle + side)], 1)
    covs = (0.045**2 * torch.eye(2)).repeat(60, 1, 1)
    return sf.MixtureWorld(radius.clone(), means, covs)


def panel(x: Tensor, hue: Tensor) -> Image.Image:
    """Points of the plane on white, coloured by `hue` in [0, 1), denser is darker."""
    at = ((x / REACH + 1.0) * 0.5 * PANEL).long()
    inside = ((at >= 0) & (at < PANEL)).all(1)
    column, row = at[inside].T
    ink = torch.tensor([colorsys.hls_to_rgb(float(h), 0.42, 0.75) for h in hue[inside]])
    place = (PANEL - 1 - row) * PANEL + column
    count = torch.zeros(PANEL * PANEL).index_add(0, place, torch.ones(len(place)))
    colour = torch.zeros(PANEL * PANEL, 3).index_add(0, place, ink) / count.clamp(min=1)[:, None]
    cover = 1.0 - torch.exp(-0.9 * count)[:, None]
    picture = (1.0 - cover) * torch.tensor([0.985, 0.985, 0.985]) + cover * colour
    return Image.fromarray((255 * picture).to(torch.uint8).numpy().reshape(PANEL, PANEL, 3).astype(np.uint8))


def hues(x0: Tensor) -> Tensor:
    """A colour for each point of the data, by its angle: it follows the point through time."""
    return (torch.atan2(x0[:, 1], x0[:, 0]) / (2 * math.pi)) % 1.0


def rows() -> list[tuple[str, list[Tensor], Tensor]]:
    """(label, states at the times shown, colours) of the two rows."""
    world, process = spiral(), sf.processes.LinearBeta()
    x0, eps = world.sample(POINTS, sf.Noise(0)), sf.Noise(1).normal(torch.empty(POINTS, 2))
    forward = [process.perturb(x0, t, eps) if t > 0 else x0 for t in SHOWN]
    grid = sorted({*sf.grids.log_snr(process, 20), *SHOWN}, reverse=True)
    x1 = process.prior(eps).sample(sf.Noise(2))
    steps = sf.trajectory(world.denoiser(process), sf.samplers.DPMpp2M(), x1, grid, sf.Noise(3))
    states = {step.time: step.x for step in steps}
    return [("forward", forward, hues(x0)), ("reverse", [states[t] for t in SHOWN], hues(states[0.0]))]


def draw() -> Image.Image:
    """The whole picture."""
    width, height = LEFT + len(SHOWN) * (PANEL + GAP), 2 * (PANEL + GAP) + 22
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, t in enumerate(SHOWN):
        pen.text((LEFT + column * (PANEL + GAP) + PANEL / 2, 11), f"t = {t:g}", "black", font, anchor="mm")
    for row, (label, states, hue) in enumerate(rows()):
        top = 22 + row * (PANEL + GAP)
        pen.text((6, top + PANEL / 2), label, "black", font, anchor="lm")
        for column, x in enumerate(states):
            sheet.paste(panel(x, hue), (LEFT + column * (PANEL + GAP), top))
    return sheet


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/process.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw().quantize(64).save(path, optimize=True)
    print(path)
