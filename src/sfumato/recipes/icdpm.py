"""icDPM: multiscale structure guided diffusion for image deblurring (Ren et al. 2023, 2212.01789)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.nets.structured import Structured
from sfumato.noise import Noise
from sfumato.recipes.sr3 import Recipe as Enlarging
from sfumato.training import Uniform
from sfumato.training.absolute import AbsoluteNoise
from sfumato.training.times import TimeLaw

EXAMPLE = """\
sfumato train FOLDER --recipe icdpm --damage motion --size 32 -o run
sfumato enhance blurred.png --model run --samples 4 -o out"""


@dataclass(frozen=True)
class Recipe(Enlarging):
    """SR3 whose encoder is guided by a regression on grey, small versions of y, which damages differ in less.

    At factors s = 2, 4, ... (the levels of the U-Net below the first) a small network guesses x_s, the clean picture in
    grey at that size, from y_s; the features before its output are added, after a convolution, to the encoder at that
    size. Both are trained together:

        L = |eps - f(y, x_t, features, gamma)|_1 + weight sum_s |g_s(y_s) - x_s|_1,   means.

    Grey is the mean of the channels and small is the mean over s x s pixels (ours), so that the features see no change
    of y that has no mean over these. The convolution begins at 0 (ours): untrained, it is SR3. Grey targets, `weight`
    and SR3's schedule are ours too: the paper's are not known to us for sure.

    Args:
        weight: of the loss of the guesses.

    Source: Ren et al. 2023 (2212.01789) section 3; no official code.
    """

    weight: float = 1.0

    def net(self) -> Structured:
        """A U-Net with guided levels."""
        return Structured(self.unet(), tuple(self.widths))

    def objective(self, denoiser: Denoiser) -> StructureLoss:
        """The absolute error of eps, and of the guesses."""
        return StructureLoss(denoiser, Uniform(0.5 / self.levels, 1.0), self.weight)


class StructureLoss(AbsoluteNoise):
    """|eps - eps_hat|_1 + weight sum_s |g_s(y_s) - x_s|_1, means over each sample, (B,)."""

    def __init__(self, denoiser: Denoiser, times: TimeLaw, weight: float) -> None:
        super().__init__(denoiser, times)
        self.guided = weight

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        return super().forward(x0, cond, noise) + self.guided * self.guess(x0, cond)

    def guess(self, x0: Tensor, cond: Any) -> Tensor:
        """sum_s |g_s(y_s) - x_s|_1, (B,)."""
        net = self.denoiser.net
        assert isinstance(net, Structured)
        parts = zip(net.structure(cond["image"])[1], net.structure.small(x0), strict=True)
        total: Tensor = sum((guess - clean).abs().flatten(1).mean(1) for guess, clean in parts)  # type: ignore[assignment]
        return total
