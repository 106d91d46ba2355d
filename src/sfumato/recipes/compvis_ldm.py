"""Latent diffusion of CompVis (2112.10752), as its checkpoints have it: autoencoder, U-Net and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.codecs import Codec, Latent
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps, predict_x0
from sfumato.denoisers.base import Wrapper
from sfumato.estimate import Estimate
from sfumato.nets.ablated import Ablated
from sfumato.nets.foreign import Coder
from sfumato.nets.taming import Taming
from sfumato.processes import Table, Time
from sfumato.samplers import DDIM

EXAMPLE = "sfumato convert model.ckpt --trust -o model"

PREDICTS = {"eps": predict_eps, "x0": predict_x0}


class Coded(Wrapper):
    """The denoiser of codes, and the autoencoder that makes them; `sf.load` asks for `codec`."""

    def __init__(self, inner: Denoiser, autoencoder: Taming | Coder, scale: float) -> None:
        super().__init__(inner)
        self.autoencoder, self.scale = autoencoder, scale

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.inner(xt, t, cond)

    def codec(self, outer: Codec) -> Latent:
        """Data space <-> codes times their scale."""
        mean = torch.zeros(self.autoencoder.latent)
        return Latent(self.autoencoder, mean, torch.full_like(mean, 1.0 / self.scale), outer)


@dataclass(frozen=True)
class Recipe:
    """A latent model: what `sfumato convert` makes of a checkpoint with autoencoder and U-Net in one file.

    z = scale E(x), x = G(z / scale); on z a table of N levels, z_n = sqrt(abar_n) z + sqrt(1 - abar_n) eps, its betas
    linear in their square root; the network says eps or z at the index n - 1. E(x) is the mean of q(z | x), or with a
    codebook (`entries`) the code before it is rounded; G rounds. A label enters as a context that attention reads; with
    `dropped` there is one label more, which means no class. Data in [0, 1], the autoencoder's own space [-1, 1].

    The defaults are those of LSUN churches.

    Args:
        channels: of the data.
        latent, inner: channels of the code, and on the autoencoder's side of it (`embed_dim`, `z_channels`).
        coder: widths of the autoencoder's levels.
        coder_base, coder_blocks, coder_attention, coder_middle, entries: as in `nets.taming`.
        scale: `scale_factor`.
        base, widths, blocks, attention, heads, head_channels, resample, film: of the U-Net, as in `ablated`.
        classes, dropped, context: number of labels, whether there is one more for none, and the channels of a label.
        predicts: "eps" or "x0".
        first, last, steps: of the betas, linear in their square root.
        betas: instead of these.
        size: side of the pictures that it was trained on; any side that the strides divide will run.

    Source: Rombach et al. 2022 (2112.10752) sections 3.1 to 3.3, appendix G, and public code.
    """

    channels: int = 3
    latent: int = 4
    inner: int = 4
    coder: tuple[int, ...] = (128, 256, 512, 512)
    coder_base: int = 128
    coder_blocks: int = 2
    coder_attention: tuple[int, ...] = ()
    coder_middle: bool = True
    entries: int = 0
    scale: float = 1.0
    base: int = 192
    widths: tuple[int, ...] = (192, 384, 384, 768, 768)
    blocks: int = 2
    attention: tuple[int, ...] = (0, 1, 2, 3)
    heads: int = 8
    head_channels: int = 0
    resample: str = "block"
    film: bool = True
    classes: int = 0
    dropped: bool = False
    context: int = 0
    predicts: str = "eps"
    first: float = 0.0015
    last: float = 0.0155
    steps: int = 1000
    betas: tuple[float, ...] = ()
    size: int = 256

    def __post_init__(self) -> None:
        if self.predicts not in PREDICTS:
            raise ValueError(f"predicts is 'eps' or 'x0', got {self.predicts!r}.")
        if self.scale <= 0.0:
            raise ValueError(f"scale is above 0, got {self.scale}.")

    def process(self) -> Table:
        """The table of N levels."""
        if self.betas:
            return Table.from_betas(self.betas)
        return Table.scaled_linear(self.steps, self.first, self.last)

    def autoencoder(self) -> Taming:
        """The untrained autoencoder."""
        return Taming(
            self.channels,
            self.latent,
            self.coder,
            self.coder_blocks,
            inner=self.inner,
            base=self.coder_base,
            attention=self.coder_attention,
            middle=self.coder_middle,
            entries=self.entries,
        )

    def net(self) -> Ablated:
        """The untrained U-Net."""
        return Ablated(
            self.latent,
            self.base,
            self.widths,
            self.blocks,
            attention=self.attention,
            heads=self.heads,
            head_channels=self.head_channels,
            resample=self.resample,
            film=self.film,
            classes=self.classes + self.dropped,
            context=self.context,
        )

    def model(self) -> Coded:
        """The untrained denoiser of codes and its autoencoder."""
        clock = lambda t: t * self.steps - 1.0  # noqa: E731
        inner = Preconditioned(self.net(), self.process(), PREDICTS[self.predicts], clock=clock)
        return Coded(inner, self.autoencoder(), self.scale)

    def null(self, cond: Any) -> Tensor:
        """The label that means no class, for every row.

        Raises:
            ValueError: for a model without one.
        """
        if not self.dropped:
            raise ValueError("this model has no label for no class: guidance by classes needs one. Leave `scale` out.")
        return torch.full_like(torch.as_tensor(cond), self.classes)

    def sampler(self) -> DDIM:
        """DDIM, deterministic."""
        return DDIM()
