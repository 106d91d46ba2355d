"""HFS-SDE: high-frequency space diffusion models for accelerated MRI (Cao et al. 2022, 2208.05481)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.kept_band import KeptBand
from sfumato.noise import Noise
from sfumato.operators import SENSE, Fourier, Linear, Measurement, kspace
from sfumato.processes import Gaussian, HighBand, LinearBeta, Time, expand
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Times
from sfumato.solvers import Solver
from sfumato.training import Denoising, Uniform, eps_weight

EXAMPLE = """\
import sfumato as sf
recipe = sf.recipes.load("hfs-sde").Recipe()
denoiser = recipe.model()  # trained by sfumato.training.fit(recipe.objective(denoiser), ...) on complex slices
x0 = recipe.solver()(denoiser, measurement, sf.Noise(0))  # of operators.Fourier or SENSE, complex_valued=True"""


@dataclass(frozen=True)
class Lines:
    """The part of complex images (B, 2 n, H, W) in the middle `count` columns of k-space: a projection."""

    count: int = 16

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"the number of columns is at least 0, got {self.count}.")

    def mask(self, like: Tensor) -> Tensor:
        """(1, W): 1 on the middle columns, 0 elsewhere."""
        width = like.shape[-1]
        at, first = torch.arange(width, device=like.device), (width - self.count + 1) // 2
        return ((at >= first) & (at < first + self.count)).to(like)[None]

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[1] % 2:
            raise ValueError(f"complex images have two channels each, real and imaginary part, got {tuple(x.shape)}.")
        image = kspace.to_complex(x.unflatten(1, (-1, 2)))
        return kspace.to_channels(kspace.inverse(self.mask(x) * kspace.transform(image))).flatten(1, 2)


@dataclass(frozen=True)
class Recipe(Pictures):
    """Noise in the outer columns of k-space alone: the middle ones are always measured.

    x_t = (I - P) x_0 + P (alpha x_0 + sigma eps), P = F^-1 (1 - M_low) F, VP with linear beta; complex images in two
    channels. Loss |P (sigma score + eps)|^2, t uniform on [1e-5, 1]. The network sees x_t with its whole low band, and
    what it says there is ignored, in the loss and in drawing (the public predictor does not project: its comment-out).
    `solver()` reconstructs: `Reconstruction`.

    The network is the library's U-Net, without attention (ours; the published one has it at 16 x 16, which slices of
    320 x 320 never come to).

    Args:
        lines: columns of M_low.
        beta_min, beta_max: of the linear beta.

    Source: Cao et al. 2022 (2208.05481) eq. 10 to 14; settings of the public code.
    """

    channels: int = 2
    attention: tuple[int, ...] = ()
    lines: int = 16
    beta_min: float = 0.1
    beta_max: float = 20.0

    def process(self) -> HighBand:
        """VP outside the low band."""
        return HighBand(LinearBeta(self.beta_min, self.beta_max), Lines(self.lines))

    def model(self) -> InHighBand:
        """The untrained denoiser."""
        process = self.process()
        return InHighBand(Preconditioned(self.net(), process.inner, predict_eps), process)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The score loss with weight sigma^2, of the high band."""
        return Denoising(denoiser, Uniform(1e-5, 1.0), eps_weight)

    def solver(self) -> Reconstruction:
        """The published reconstruction."""
        return Reconstruction()


class InHighBand(KeptBand):
    """A denoiser of complex slices, which names its own solver."""

    def restoring(self, m: Measurement) -> Solver | None:
        """The solver of `Model.restore` for k-space of complex images."""
        return Reconstruction() if isinstance(m.operator, Fourier | SENSE) and m.operator.complex_valued else None


@dataclass(frozen=True)
class Reconstruction(Solver):
    """From the low-frequency image and noise P n: a Langevin corrector and a predictor at each level, with G = A^T
    (A x - y) made as long as the score.

        x <- x + e (score - w_c G) + sqrt(2 e) P z,            e = 2 (snr |z| / |score|)^2
        x <- x + beta/2 P x dt + beta (score - w G) dt + sqrt(beta dt) P z,    no noise in the last step

    The low band is that of the measurement: noise and score leave it alone, and G is 0 there for one coil. y must hold
    the middle columns that the process leaves alone. Norms are per sample (ours; the code's over the batch), the score
    is projected before its length is taken (ours in the predictor), and the code's alpha in e, 1 - beta dt, is left out
    (ours). Two network calls a step.

    Limits: no posterior is drawn from. G's length is that of the score however small the misfit is, so that the
    measured part of the high band ends near y, not at it, and more steps need not bring it nearer.

    Args:
        steps: N, levels.
        weight, corrector_weight: w and w_c.
        snr: of the corrector; 0 leaves it out.

    Source: Cao et al. 2022 (2208.05481) algorithm 1; order, start and settings of the public code.
    """

    steps: int = 1000
    weight: float = 2.5
    corrector_weight: float = 0.1
    snr: float = 0.16
    needs = Linear

    @classmethod
    def accelerated(cls) -> Reconstruction:
        """A hundred levels with a larger corrector."""
        return cls(100, snr=0.32)

    def times(self, process: Gaussian) -> Times:
        return (*grids.uniform(self.steps - 1, end=1e-3), 0.0) if self.steps > 1 else (1.0, 0.0)

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        """The image of the middle columns of y, and noise of the high band, at any t."""
        process, operator = denoiser.process, m.operator
        if not isinstance(process, HighBand) or not isinstance(process.low, Lines):
            raise TypeError(
                f"Reconstruction needs a denoiser of hfs-sde, whose process is HighBand, got {process}. Use "
                "ScoreMedical, which takes any."
            )
        assert isinstance(operator, Linear)
        image = operator.adjoint(m.y * process.low.mask(m.y))
        return image + process.inner.sigma(t) * process.high(noise.normal(self.like(denoiser, m)))

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, HighBand) and isinstance(t, float) and isinstance(s, float)

        def pull(x: Tensor, weight: float) -> tuple[Tensor, Tensor]:
            score = process.score(x, denoiser(x, t).mean, t)
            G = -m.operator.adjoint(m.residual(x))  # type: ignore[attr-defined]
            length = _length(G)
            G = G * (_length(score) / torch.where(length > 0.0, length, 1.0))
            return score, score - weight * G

        x = xt
        if self.snr > 0.0:
            score, move = pull(x, self.corrector_weight)
            z = noise.normal(x)
            e = 2.0 * (self.snr * _length(z) / _length(score)) ** 2
            x = x + e * move + (2.0 * e).sqrt() * process.high(z)
        f, g = process.sde(t)
        _, move = pull(x, self.weight)
        x = x + (g**2 * move - f * process.high(x)) * (t - s)
        if s > 0.0:
            x = x + g * math.sqrt(t - s) * process.high(noise.normal(x))
        return x, memory


def _length(x: Tensor) -> Tensor:
    """The norm of each row, ready to multiply it."""
    return expand(x.flatten(1).norm(dim=1), x)
