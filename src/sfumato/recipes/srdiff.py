"""SRDiff: single image super-resolution with diffusion probabilistic models (Li et al. 2022, 2104.14951)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, Predicted, Residual, predict_eps
from sfumato.nets.added import Added
from sfumato.nets.rrdb import RRDB, Projected
from sfumato.noise import Noise
from sfumato.processes import Reverting, Table, entry
from sfumato.processes.variances import small
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Staged, Steps, eps_weight
from sfumato.training.regression import Regression

EXAMPLE = """\
sfumato train FOLDER --recipe srdiff --damage enlarge:4 --size 32 -o run
sfumato enhance small.png --model run --samples 4 -o out"""


class OfHeld(Denoising):
    """The absolute error of eps, on residuals held to the range that the model can say."""

    def __init__(self, denoiser: Denoiser, levels: int, reach: float) -> None:
        super().__init__(denoiser, Steps(levels), eps_weight, power=1.0)
        self.reach = reach

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        y = cond["image"]
        return super().forward(y + (x0 - y).clamp(-self.reach, self.reach), cond, noise)


@dataclass(frozen=True)
class Recipe(Restorer):
    """DDPM of the residual z_0 = c (x_0 - y_up), c = 2, held to [-1, 1], told features of a network trained before.

    z_t = alpha z_0 + sigma eps,  L = |f(z_t, features(y), t) - eps|,  x_0 = y_up + z_0 / c; of the picture itself it is
    the process with anchor y_up and noise sigma / c. Features: every third output of an RRDB that was first trained to
    say x_0 from y, projected to the first width and added once after the first level. Sampling is ancestral with the
    small variance, from y_up + eps / c on, all N levels.

    Both stages are one run (ours): `pretrain` steps of the absolute error of the RRDB, which then stands still. The
    RRDB sees the enlarged picture, folded (ours); the network is told log SNR (the paper: the step).

    Limits: a residual beyond 1 / c is cut off, as in the public code: |x_0 - y_up| <= 0.5 with c = 2.

    Args:
        scale: c.
        factor: the RRDB works at 1 / factor of the size.
        features, encoder: its width and its blocks.
        pretrain: steps of the first stage.
        levels: N, of a cosine table.

    Source: Li et al. 2022 (2104.14951) algorithms 1 and 2; public code for c and the clamps.
    """

    scale: float = 2.0
    factor: int = 4
    features: int = 32
    encoder: int = 8
    pretrain: int = 1000
    levels: int = 100

    def process(self) -> Reverting:
        """The residual's process, seen from the picture; its anchor is the entry "image"."""
        return Reverting(Table.cosine(self.levels), scale=1.0 / self.scale, read=entry("image"))

    def net(self) -> nn.Module:
        """The U-Net, which sees z_t and features."""
        return Added(self.unet(beside=0))

    def model(self) -> Predicted:
        """The untrained denoiser, its encoder inside."""
        process = self.process()
        inner = Preconditioned(self.net(), process.inner, predict_eps)
        encoder = RRDB(self.channels, self.factor, self.features, self.encoder)
        return Predicted(Residual(inner, process), Projected(encoder, self.widths[0]), "features")

    def objective(self, denoiser: Denoiser) -> Staged:
        """First the absolute error of the encoder's own x_0, then that of eps."""
        encoder = denoiser.predictor.encoder  # type: ignore[union-attr]
        then = OfHeld(denoiser, self.levels, 1.0 / self.scale)
        return Staged(denoiser, Regression(encoder, 1), then, self.pretrain)  # type: ignore[arg-type]

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """z_0 held to [-1, 1]."""
        assert isinstance(denoiser, Predicted) and isinstance(denoiser.inner, Residual)
        return Predicted(denoiser.inner.held(), denoiser.predictor, denoiser.key)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the small variance."""
        return Ancestral(small)
