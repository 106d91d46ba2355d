"""Refusion: large-size realistic image restoration with latent-space diffusion models (Luo et al. 2023, 2304.08291)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from sfumato.codecs import Codec
from sfumato.denoisers import Denoiser, Residual
from sfumato.nets.nafnet import NAFNet
from sfumato.nets.skipping import Skipping, Skips
from sfumato.noise import Noise
from sfumato.recipes.ir_sde import Recipe as OnPictures
from sfumato.training.staged import Staged

EXAMPLE = """\
sfumato train FOLDER --recipe refusion --damage haze --size 64 --set latent=8 -o run
sfumato enhance hazy.png --model run -o out"""


@dataclass(frozen=True, eq=False)
class Round(Codec):
    """Codes of pictures, decoded with the fine features of one batch of them: what is decoded has its rows."""

    domain: Skipping
    skips: Skips = field(repr=False)

    def encode(self, x: Tensor) -> Tensor:
        return self.domain.encode(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.domain.decode(z, self.skips)


class Replacing(nn.Module):
    """|G(E(y), H(y)) - y| + |G(E(x_0), H(y)) - x_0| + 0.001 (|mean E(y) - mean y| + |std E(y) - std y / 2|), in L1.

    E is the code, H the skips, G the decoder: a code of the clean picture in the place of the damaged one's must bring
    out the clean picture. Mean and std are of each sample (ours; of the batch in the public code).
    Source: Luo et al. 2023 (2304.08291) section 3.3; public code.
    """

    def __init__(self, domain: Skipping) -> None:
        super().__init__()
        self.domain = domain

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        y = cond["image"]
        (code, skips), (clean, _) = self.domain.encode(y), self.domain.encode(x0)
        errors = [(self.domain.decode(z, skips) - x).abs().flatten(1).mean(1) for z, x in ((code, y), (clean, x0))]
        rows, seen = code.flatten(1), y.flatten(1)
        shape = (rows.mean(1) - seen.mean(1)).abs() + (rows.std(1) - 0.5 * seen.std(1)).abs()
        return errors[0] + errors[1] + 0.001 * shape


class OnCodes(nn.Module):
    """The loss of diffusion on the codes of x_0 and y, with the autoencoder as it is."""

    def __init__(self, domain: Skipping, loss: nn.Module) -> None:
        super().__init__()
        self.domain, self.loss = domain, loss

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        with torch.no_grad():
            z0, y = (self.domain.encode(x)[0] for x in (x0, cond["image"]))
        return cast(Tensor, self.loss(z0, {**cond, "image": y}, noise))


class Coded(dict[str, Tensor]):
    """A condition whose "image" is a code, and the codec that decodes with the fine features of its picture."""

    def __init__(self, cond: Mapping[str, Tensor], space: Round) -> None:
        super().__init__({**cond, "image": space.encode(cond["image"])})
        self.space = space


@dataclass(frozen=True)
class Recipe(OnPictures):
    """IR-SDE with a network of gates in the place of activations (NAFNet), on pictures or on codes of an autoencoder.

    On codes (`latent` channels): (L, H) = E(x), x = G(L, H), where the fine features H of the damaged picture go round
    the diffusion. The autoencoder is trained first, so that L(x_0) with H(y) decodes to x_0 ("latent replacing"); then
    L(x_0) is diffused with L(y) as the mean, and what is drawn is decoded with H(y). `sfumato train` trains it for
    `first` steps, and the denoiser from there on. lam keeps its meaning through the loss on the std of L alone.

    Sizes are those that `sfumato train` chooses (ours): `widths[0]` features, doubled at every level, `blocks` a level.
    `Recipe.published()` has the paper's; its optimizer is Lion at 4e-5, which is not here. Drawing, its limits and the
    other settings are those of IR-SDE.

    Args:
        depths: blocks of each level on the way down, in the place of `blocks`.
        latent: channels of the code; 0: diffusion on pictures.
        code_width, factors: features of the autoencoder, width times each factor; each but the last halves the size.
        first: steps of the autoencoder.

    Source: Luo et al. 2023 (2304.08291) sections 3.2 and 3.3; network, lam, end and losses of the public code.
    """

    lam: float = 50.0 / 255.0
    depths: tuple[int, ...] = ()
    latent: int = 0
    code_width: int = 8
    factors: tuple[int, ...] = (4, 8, 8, 16)
    first: int = 1000

    @classmethod
    def published(cls, latent: int = 0) -> Recipe:
        """The paper's sizes, 77 million numbers."""
        return cls(widths=(64, 128, 256, 512), depths=(1, 1, 1, 28), latent=latent)

    def net(self) -> NAFNet:
        """The conditional NAFNet, of pictures or of codes."""
        channels = self.latent or self.channels
        depths = tuple(self.depths) or (self.blocks,) * len(self.widths)
        return NAFNet(channels, self.widths[0], depths, image=channels)

    def domain(self) -> Skipping:
        """The untrained autoencoder."""
        return Skipping(self.channels, self.code_width, tuple(self.factors), self.latent)

    def model(self) -> Residual:
        """The untrained denoiser; with the autoencoder as its `domain`, where there are codes."""
        denoiser = super().model()
        if self.latent:
            denoiser.domain = self.domain()
        return denoiser

    def diffusion(self, denoiser: Denoiser) -> nn.Module:
        """The loss of the denoiser alone."""
        return super().objective(denoiser)

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """The loss of the denoiser; on codes, that of the autoencoder before it."""
        loss = self.diffusion(denoiser)
        if not self.latent:
            return loss
        domain = cast(Skipping, denoiser.domain)
        return Staged(denoiser, Replacing(domain), OnCodes(domain, loss), self.first)

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """The code of y in its place; y itself without codes."""
        if not self.latent:
            return cond
        domain = cast(Skipping, denoiser.domain)
        return Coded(cond, Round(domain, domain.encode(cond["image"])[1]))

    def picture(self, denoiser: Denoiser, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """A code decoded with the fine features of y; x itself without codes."""
        return cond.space.decode(x) if isinstance(cond, Coded) else x
