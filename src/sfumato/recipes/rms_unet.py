"""Models of denoising-diffusion-pytorch, as its checkpoints have them (public code, version 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.denoisers import Clipped, Denoiser, LearnedVariance, Preconditioned, predict_eps, predict_v, predict_x0
from sfumato.nets.rms_unet import RMSUNet
from sfumato.processes import Cosine, Gaussian, LinearBeta, Table
from sfumato.samplers import DDIM, Sampler, SelfConditioned
from sfumato.training import Denoising, Hybrid, Steps, Uniform, eps_weight

EXAMPLE = "sfumato convert results/model-100.pt -o model"

PREDICTS = {"eps": predict_eps, "x0": predict_x0, "v": predict_v}
TABLES = {
    "linear": lambda steps: Table.linear(steps, 0.1 / steps, 20.0 / steps),
    "cosine": Table.cosine,
    "sigmoid": Table.sigmoid,
}
CONTINUOUS: dict[str, Gaussian] = {"linear": LinearBeta(0.0, 20.0), "cosine": Cosine()}


@dataclass(frozen=True)
class Recipe:
    """The U-Net of that code on a table of N levels, or on log SNR: what `sfumato convert` makes of its checkpoints.

    The network says eps, x_0 or v at the index n - 1 of N levels; with Fourier features of the clock (`frequencies`) it
    is told log SNR and N = 0: there is no table, and the schedule is LinearBeta(0, 20) or Cosine (theirs add noise of
    0.01 at t = 0). With a learned variance v of Sigma = exp(v log beta_n + (1 - v) log btilde_n) comes beside it. A
    network with `selfed` takes an earlier estimate of x_0 as its condition, zeros without one: `sampler` hands it on.
    Data in [0, 1], model space [-1, 1]. Sampling as published holds D to [-1, 1] (`guide`).

    Args:
        base: `dim` of the code.
        widths: `init_dim` and `dim` times `dim_mults`, so one more than levels.
        full: levels with `full_attn`.
        heads, head_channels: of each level, `attn_heads` and `attn_dim_head`.
        theta: `sinusoidal_pos_emb_theta`.
        predicts: "eps", "x0" or "v".
        schedule: of N levels, "linear" (betas 0.1 / N to 20 / N), "cosine" or "sigmoid".
        betas: instead of a schedule that has a name.
        size: side of the pictures that it was trained on; any side that the strides divide will run. 0: not known.

    Source: public code of denoising-diffusion-pytorch; Ho et al. 2020 (2006.11239) eq. 11; Salimans & Ho 2022
    (2202.00512) for v; Chen et al. 2023 (2208.04202) for self-conditioning.
    """

    channels: int = 3
    base: int = 64
    widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    full: tuple[int, ...] = (3,)
    heads: tuple[int, ...] = (4, 4, 4, 4)
    head_channels: tuple[int, ...] = (32, 32, 32, 32)
    selfed: bool = False
    learned: bool = False
    frequencies: int = 0
    theta: float = 10000.0
    predicts: str = "v"
    schedule: str = "sigmoid"
    steps: int = 1000
    betas: tuple[float, ...] = ()
    size: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.predicts not in PREDICTS:
            raise ValueError(f"predicts is one of {', '.join(PREDICTS)}, got {self.predicts!r}.")
        known = TABLES if self.steps else CONTINUOUS
        if not self.betas and self.schedule not in known:
            raise ValueError(f"schedule of {self.steps} steps is one of {', '.join(known)}, got {self.schedule!r}.")
        if bool(self.frequencies) == bool(self.steps):
            raise ValueError(
                "a clock with Fourier features is told log SNR and has no steps, one of sinusoids counts them: "
                f"got {self.frequencies} frequencies and {self.steps} steps."
            )

    def process(self) -> Gaussian:
        """The table of N levels, or the schedule in continuous time."""
        if self.betas:
            return Table.from_betas(self.betas)
        return TABLES[self.schedule](self.steps) if self.steps else CONTINUOUS[self.schedule]

    def net(self) -> nn.Module:
        """The untrained network."""
        return RMSUNet(
            self.channels,
            self.base,
            self.widths,
            full=self.full,
            heads=self.heads,
            head_channels=self.head_channels,
            selfed=self.selfed,
            frequencies=self.frequencies,
            theta=self.theta,
            out=2 * self.channels if self.learned else self.channels,
            dropout=self.dropout,
        )

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        kind = LearnedVariance if self.learned else Preconditioned
        clock = (lambda t: t * self.steps - 1.0) if self.steps else None
        return kind(self.net(), self.process(), PREDICTS[self.predicts], clock=clock)

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """L_hybrid where the variance is learned, else the square error of eps."""
        if self.learned:
            return Hybrid(denoiser)
        return Denoising(denoiser, Steps(self.steps) if self.steps else Uniform(1e-3, 1.0), eps_weight)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1]."""
        return Clipped(denoiser)

    def sampler(self) -> Sampler:
        """DDIM, which hands the last estimate on where the network takes one."""
        return SelfConditioned(DDIM()) if self.selfed else DDIM()
