"""IDM: implicit diffusion models for continuous super-resolution (Gao et al. 2023, 2303.16491)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.nets.implicit import AnyScale, small
from sfumato.noise import Noise
from sfumato.recipes.sr3 import Recipe as Enlarging
from sfumato.training import Uniform
from sfumato.training.absolute import AbsoluteNoise
from sfumato.training.times import TimeLaw

EXAMPLE = """\
sfumato train FOLDER --recipe idm --damage enlarge:4 --size 32 -o run
sfumato enhance small.png --model run --samples 4 -o out"""


@dataclass(frozen=True)
class Recipe(Enlarging):
    """SR3 for any scale: a small picture's features, read at any size, beside x_t and in the decoder.

    e = E(y, size) is concatenated with x_t; at each stage of the decoder, features F of e are mixed with its own,

        h <- silu(w1(s) h + w2(s) F),  w1^2 + w2^2 = 1 for each channel,  h_up(p) = W2 W1 (h near p, p - its cell).

    Loss |eps - f|_1, the scale s ~ U(low, high) drawn for each batch, and y made of x_0 by that scale: the damage that
    training was asked for is not used. Where pictures are enlarged already, as `enhance` has them, the network makes
    them small again by `scale`, or cond["scale"] (ours).

    s enters as it is, through a linear layer: beyond the range of training it extrapolates. The network is smaller than
    the published one, and its stages are the library's blocks (ours).

    Args:
        low, high: of the scales in training: 1 to 8 for faces, 1 to 4 for photographs.
        scale: of enlarged pictures that do not say theirs.

    Source: Gao et al. 2023 (2303.16491); layers and settings of the public code.
    """

    dropout: float = 0.2
    low: float = 1.0
    high: float = 4.0
    scale: float = 4.0

    def net(self) -> AnyScale:
        """The untrained network."""
        return AnyScale(
            self.channels,
            tuple(self.widths),
            self.blocks,
            attention=tuple(self.attention),
            dropout=self.dropout,
            scale=self.scale,
        )

    def objective(self, denoiser: Denoiser) -> ScaleLoss:
        """The absolute error of eps, at a scale drawn for each batch."""
        return ScaleLoss(denoiser, Uniform(0.5 / self.levels, 1.0), self.low, self.high)


class ScaleLoss(AbsoluteNoise):
    """|eps - eps_hat|_1, means, (B,), given x_0 made small by one s ~ U(low, high)."""

    def __init__(self, denoiser: Denoiser, times: TimeLaw, low: float, high: float) -> None:
        super().__init__(denoiser, times)
        if not 1.0 <= low <= high:
            raise ValueError(f"scales are 1 or more, the lower end first, got {low} and {high}.")
        self.low, self.high = low, high

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        u = float(noise.uniform(torch.empty(len(x0), dtype=torch.float64))[0])
        scale = self.low + (self.high - self.low) * u
        told = {"image": small(x0, scale), "scale": torch.full((len(x0),), scale, dtype=torch.float64)}
        return super().forward(x0, told, noise)
