"""Shadows and darkness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.data.damages.base import Damage, Range, drawn, field, uniforms
from sfumato.noise import Noise

TINT = (0.9, 1.0, 1.1)  # a shadow is bluer than the sun


@dataclass(frozen=True)
class Shadow(Damage):
    """y = x (1 - m (1 - a)), a = 0.4 (0.9, 1, 1.1), m a blot with a hard or a soft edge.

    A surface f of length U(12, 48) pixels is in shadow above its quantile 1 - q, q ~ U(0.2, 0.5):
    m = 1 / (1 + exp(-(f - threshold) / softness)), 0 or 1 where the softness is 0. Beside y it gives "mask", m itself,
    and "rough", what a person or a detector might mark: m opened by a square of 5 pixels, and cut at 0.5.

    Args:
        softness: one of these, drawn.
        dark: of the light that is left.
    """

    softness: tuple[float, ...] = (0.0, 0.15, 0.6)
    dark: float = 0.4

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        u = uniforms(noise, 3)
        h, w = x.shape[1:]
        f = field((h, w), drawn(u[0], (12.0, 48.0)), noise)
        above = f - torch.quantile(f.flatten()[:: max(1, h * w // 2**20)], 1.0 - drawn(u[1], (0.2, 0.5)))
        soft = self.softness[int(u[2] * len(self.softness))]
        mask = (torch.sigmoid(above / soft) if soft else (above > 0.0).float())[None]
        tint = torch.tensor(TINT if len(x) == 3 else (1.0,)).to(x).reshape(-1, 1, 1)
        lit = 1.0 - mask * (1.0 - self.dark * tint)
        return {"image": x * lit, "mask": mask, "rough": opened(mask)}


def opened(mask: Tensor) -> Tensor:
    """A mask (1, H, W) opened by a square of 5 pixels, and cut at 0.5."""
    eroded = -F.max_pool2d(-mask, 5, 1, 2)
    return (F.max_pool2d(eroded, 5, 1, 2) >= 0.5).float()


@dataclass(frozen=True)
class LowLight(Damage):
    """A short exposure: u = e x^2.2, y = (Poisson(K u) / K + 0.004 n)^(1 / 2.2).

    Args:
        exposure: e, drawn evenly in its logarithm. K = min(2000 e, 400) photons of a white pixel at full light.
    """

    exposure: Range = (0.05, 0.3)

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        e = drawn(uniforms(noise, 1)[0], self.exposure, log=True)
        k = min(2000.0 * e, 400.0)
        seen = noise.poisson(k * e * x**2.2) / k + 0.004 * noise.normal(x)
        return {"image": seen.clamp(0.0, 1.0) ** (1 / 2.2)}
