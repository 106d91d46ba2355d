"""Networks of improved-diffusion and guided-diffusion, as published weights have them (2102.09672, 2105.05233)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.denoisers import Clipped, Denoiser, LearnedVariance, Preconditioned, predict_eps
from sfumato.nets.ablated import Ablated
from sfumato.processes import Table
from sfumato.processes.variances import large, learned
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Hybrid, Steps, eps_weight

EXAMPLE = "sfumato convert 256x256_diffusion_uncond.pt -o model"


@dataclass(frozen=True)
class Recipe:
    """The ablated U-Net on a table of N levels: what `sfumato convert` makes of these weights, and can be trained on.

    x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) eps; the network says eps at the index n - 1 and, where the variance is
    learned, v of Sigma = exp(v log beta_n + (1 - v) log btilde_n). Data in [-1, 1]. A condition is a label, or a dict
    with "label" and "image", the small picture in [-1, 1] that an upsampler enlarges. There is no label for "no class".

    The defaults are guided-diffusion's 256 pixels without classes. Sampling as published holds D to [-1, 1] (`guide`).

    Args:
        base: channels of the clock's sinusoids, `num_channels` of the code.
        widths: `num_channels` times `channel_mult`.
        attention: levels with attention, 0 the finest.
        head_channels: channels of a head; 0: there are `heads` of them in each layer.
        ordered: `use_new_attention_order`.
        resample: between levels: "block" (`resblock_updown`), "conv" or "pool".
        film: `use_scale_shift_norm`.
        lowres: an upsampler.
        learned: the variance is learned (`learn_sigma`).
        schedule: of N levels, "linear" (betas 0.1 / N to 20 / N) or "cosine".
        size: side of the pictures that it was trained on; any side that the strides divide will run. 0: not known.

    Source: Nichol & Dhariwal 2021 (2102.09672) eq. 15 and 17; Dhariwal & Nichol 2021 (2105.05233) section 3, table 4
    and public code.
    """

    channels: int = 3
    base: int = 256
    widths: tuple[int, ...] = (256, 256, 512, 512, 1024, 1024)
    blocks: int = 2
    attention: tuple[int, ...] = (3, 4, 5)
    heads: int = 4
    head_channels: int = 64
    ordered: bool = False
    resample: str = "block"
    film: bool = True
    classes: int = 0
    lowres: bool = False
    learned: bool = True
    schedule: str = "linear"
    steps: int = 1000
    size: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.schedule not in ("linear", "cosine"):
            raise ValueError(f"schedule is 'linear' or 'cosine', got {self.schedule!r}.")

    def process(self) -> Table:
        """The table of N levels."""
        if self.schedule == "cosine":
            return Table.cosine(self.steps)
        return Table.linear(self.steps, 0.1 / self.steps, 20.0 / self.steps)

    def net(self) -> nn.Module:
        """The untrained network."""
        return Ablated(
            self.channels,
            self.base,
            self.widths,
            self.blocks,
            attention=self.attention,
            heads=self.heads,
            head_channels=self.head_channels,
            ordered=self.ordered,
            resample=self.resample,
            film=self.film,
            classes=self.classes,
            image=self.channels if self.lowres else 0,
            out=2 * self.channels if self.learned else self.channels,
            dropout=self.dropout,
        )

    def model(self) -> Preconditioned:
        """The untrained denoiser; the network is told n - 1, whatever N, as the released ones are."""
        kind = LearnedVariance if self.learned else Preconditioned
        return kind(self.net(), self.process(), predict_eps, clock=lambda t: t * self.steps - 1.0)

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """L_hybrid where the variance is learned, else L_simple."""
        return Hybrid(denoiser) if self.learned else Denoising(denoiser, Steps(self.steps), eps_weight)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1]."""
        return Clipped(denoiser)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the learned variance, or beta."""
        return Ancestral(learned if self.learned else large)
