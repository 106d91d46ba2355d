"""What a generator makes of a picture: noised to an intermediate level and drawn back by a denoiser."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfumato import grids
from sfumato.codecs import Affine, Codec
from sfumato.data.damages.base import Damage, Range, drawn, uniforms
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.samplers import Ancestral, Sampler, sample


@dataclass(frozen=True)
class Redrawn(Damage):
    """y drawn from p(x_0 | x_t) at a level t of strength: x_t = alpha first(x) + sigma eps, then down to 0.

    With strength 0 it is `first(x)`; with 1 a draw of the denoiser's own that has nothing of x.

    Args:
        denoiser: unconditional; of pictures (C, H, W) of the sizes that are damaged.
        strength: t, drawn evenly.
        steps: of a run down from t = 1, or of every run where `even`; few of them leave artifacts of their own.
        sampler: on a uniform grid.
        first: a damage that comes before.
        codec: between [0, 1] and the space of the denoiser.
        even: every run has all `steps`, whatever its strength.
    """

    denoiser: Denoiser
    strength: Range = (0.1, 0.6)
    steps: int = 20
    sampler: Sampler = field(default_factory=Ancestral)
    first: Damage | None = None
    codec: Codec = field(default_factory=Affine.unit)
    even: bool = False

    def apply(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        t = drawn(uniforms(noise, 1)[0], self.strength)
        y = x if self.first is None else self.first.apply(x, noise)["image"]
        if t == 0.0:
            return {"image": y}
        z, process = self.codec.encode(y[None]), self.denoiser.process
        steps = self.steps if self.even else max(1, round(t * self.steps))
        with torch.no_grad():
            xt = (process.prior(z) if t == 1.0 else process.marginal(z, t)).sample(noise)
            x0 = sample(self.denoiser, self.sampler, x1=xt, times=grids.uniform(steps, start=t), noise=noise)
        return {"image": self.codec.decode(x0)[0]}
