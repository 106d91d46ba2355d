"""Autoguidance: guiding a diffusion model with a bad version of itself (Karras et al. 2024, 2406.02507)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser, Wrapper
from sfumato.denoisers.base import Self
from sfumato.estimate import Estimate
from sfumato.processes import Process, Time

EXAMPLE = """\
python -c 'import torch, sfumato as sf; P = sf.processes.LinearBeta(); one = torch.ones(1)
good, weak = (sf.GaussianWorld(one, torch.eye(1) * v).denoiser(P) for v in (0.04, 0.09))
D = sf.guides.Autoguidance(good, weak)
x = sf.sample(D, sf.samplers.Arc(), shape=(999, 1), times=sf.grids.default(P, 20), noise=sf.Noise(0))
print(x.mean(), x.std())'"""


class Autoguidance(Wrapper):
    """D_weak + scale (D - D_weak): away from what a worse model of the same task and condition says. Two calls.

    scale 1 is `inner`, at one call. Both models see the condition. The variance is that of `inner`.

    Args:
        inner: the model.
        weak: a smaller or less trained version of it, on the same process.
        scale: w of the paper; 2.1 for EDM2-S on ImageNet 512, 2.05 for EDM2-XXL, 1.7 for EDM2-S at 64 pixels.

    Source: Karras et al. 2024 (2406.02507) eq. 4.
    """

    def __init__(self, inner: Denoiser, weak: Denoiser, scale: float = 2.1) -> None:
        super().__init__(inner)
        self.weak, self.scale = weak, scale

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        good: Estimate = self.inner(xt, t, cond)
        if self.scale == 1.0:
            return good
        weak: Estimate = self.weak(xt, t, cond)
        return good._replace(mean=weak.mean.lerp(good.mean, self.scale))

    def with_process(self: Self, process: Process) -> Self:
        twin = super().with_process(process)
        twin.weak = self.weak.with_process(process)  # type: ignore[union-attr, operator]
        return twin


Recipe = Autoguidance
