"""D2C: diffusion-decoding models for few-shot conditional generation (Sinha et al. 2021, 2106.06819)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato import grids
from sfumato.codecs import Codec, Latent
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.base import Wrapper
from sfumato.estimate import Estimate
from sfumato.nets import Autoencoder, UNet
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, Time
from sfumato.samplers import DDIM, sample
from sfumato.training import Denoising, Source, Steps, eps_weight
from sfumato.training.contrastive import Momentum, views


class LatentDenoiser(Wrapper):
    """The prior's denoiser of standardised codes, and the autoencoder that makes them.

    `sf.load` asks for `codec`, so that the model draws and decodes as any other.
    """

    def __init__(self, inner: Denoiser, autoencoder: Autoencoder) -> None:
        super().__init__(inner)
        self.autoencoder = autoencoder
        self.register_buffer("mean", torch.zeros(autoencoder.latent))
        self.register_buffer("var", torch.ones(autoencoder.latent))

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.inner(xt, t, cond)

    def codec(self, outer: Codec) -> Latent:
        """Data space <-> standardised codes."""
        mean, var = self.mean, self.var
        assert isinstance(mean, Tensor) and isinstance(var, Tensor)
        return Latent(self.autoencoder, mean, var.sqrt(), outer)


class Projected(nn.Module):
    """The mean of q(z | x), pooled to 4 x 4, through two layers: what the contrastive loss compares."""

    def __init__(self, autoencoder: Autoencoder, features: int, dims: int) -> None:
        super().__init__()
        self.autoencoder, self.dims = autoencoder, dims
        self.head = nn.Sequential(nn.Linear(autoencoder.latent * 4**dims, 256), nn.SiLU(), nn.Linear(256, features))

    def forward(self, x: Tensor) -> Tensor:
        """Features of x, (B, features)."""
        return self.project(self.autoencoder.encode(x)[0])

    def project(self, z: Tensor) -> Tensor:
        """Features of a code."""
        pool = F.adaptive_avg_pool1d if self.dims == 1 else F.adaptive_avg_pool2d
        return self.head(pool(z, 4).flatten(1))  # type: ignore[operator]


class Objective(nn.Module):
    """-log p(x | z_1) + weight L_diffusion(z_1) + contrast L_InfoNCE(z_1), z_1 ~ q(z | x), (B,).

    The first term is mean |x - G(z_1)|^2 / (2 spread^2). The diffusion sees the codes standardised channel by channel
    over the batch, so that the encoder gains nothing by making them small; the moving mean and variance are kept for
    the codec. The one z_1 that is decoded is the query of the contrastive loss, its key a view of the same picture.
    Source: Sinha et al. 2021 (2106.06819) eq. 8 and 9.
    """

    def __init__(self, denoiser: LatentDenoiser, recipe: Recipe) -> None:
        super().__init__()
        self.denoiser, self.recipe = denoiser, recipe
        self.prior = Denoising(denoiser.inner, Steps(recipe.levels), eps_weight)
        self.query = Projected(denoiser.autoencoder, recipe.features, recipe.dims)
        self.contrast = Momentum(self.query, recipe.features, length=recipe.queue, keep=recipe.keep)

    def advance(self, step: int) -> None:
        """Moves the slow encoder."""
        self.contrast.advance(self.query)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        two, r = self.denoiser, self.recipe
        z1 = two.autoencoder.draw(x0, noise)
        seen = two.autoencoder.decode(z1, x0.shape[2:])
        loss = (x0 - seen).flatten(1).square().mean(1) / (2.0 * r.spread**2)
        z = F.batch_norm(z1, two.mean, two.var, training=True, momentum=0.01)  # type: ignore[arg-type]
        loss = loss + r.weight * self.prior(z, None, noise)
        if r.contrast > 0.0:
            loss = loss + r.contrast * self.contrast(self.query.project(z1), views(x0, noise, flip=r.flip))
        return loss


@dataclass(frozen=True)
class Recipe:
    """An autoencoder with a diffusion as prior and contrastive codes; labels enter through a small classifier.

    L = -log p(x | z_1) + L_diffusion(z_1) + lambda L_InfoNCE(z_1). Draws are made by DDIM on z, then decoded. With some
    hundred labels, a logistic classifier r(c | z) of the codes makes it conditional: `reject` keeps z ~ p(z) with the
    probability r(c | z), so that the law is p(z) r(c | z) / Z. `edit` moves a code along the normal of a linear
    boundary, noises it to a level and comes back. The networks, weights of the terms, queue and views are of the
    library's size (ours).

        model = sf.load("RUN")                                       # after: sfumato train DATA --recipe d2c --out RUN
        classifier = Classifier.fitted(model.codec.encode(x), labels, classes=10)
        z, asked = reject(recipe.prior(model.denoiser, (4, 7, 7)), classifier.of(3), 16, sf.Noise(0))
        x = model.codec.decode(z)

    Source: Sinha et al. 2021 (2106.06819) eq. 8 and 9, sections 4 and 5, appendix; MIT code of the authors (inference).
    """

    channels: int = 3
    latent: int = 4  # channels of the code
    coder: tuple[int, ...] = (32, 64)  # widths of the autoencoder; each level after the first halves the side
    patch: int = 2  # space-to-depth factor at its entrance: the side of a code is that of the data / 4
    widths: tuple[int, ...] = (64, 128)  # of the prior's U-Net
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    dims: int = 2
    dropout: float = 0.0
    levels: int = 1000  # N of the prior's chain
    spread: float = 0.2  # standard deviation of p(x | z)
    weight: float = 1.0  # of the diffusion term
    contrast: float = 0.1  # lambda
    features: int = 64  # that the contrastive loss compares
    queue: int = 4096  # keys held
    keep: float = 0.99  # of the slow encoder, each step
    flip: bool = True  # views are mirrored, every second time

    def process(self) -> Table:
        """DDPM's linear table."""
        return Table.linear(self.levels)

    def model(self) -> LatentDenoiser:
        """The untrained prior and autoencoder."""
        net = UNet(
            self.latent,
            tuple(self.widths),
            self.blocks,
            attention=tuple(self.attention),
            dims=self.dims,
            dropout=self.dropout,
        )
        prior = Preconditioned(net, self.process(), predict_eps, clock=lambda t: t * self.levels - 1.0)
        return LatentDenoiser(
            prior, Autoencoder(self.channels, self.latent, tuple(self.coder), dims=self.dims, patch=self.patch)
        )

    def objective(self, denoiser: LatentDenoiser) -> Objective:
        """The three terms."""
        return Objective(denoiser, self)

    def sampler(self) -> DDIM:
        """DDIM, deterministic."""
        return DDIM()

    def times(self, steps: int = 100) -> tuple[float, ...]:
        """A grid of the table."""
        return grids.table(self.process(), steps)

    def prior(self, denoiser: Denoiser, event: tuple[int, ...], steps: int = 100) -> Source:
        """Draws of standardised codes of this shape."""

        def draw(n: int, noise: Noise) -> Tensor:
            return sample(denoiser, self.sampler(), shape=(n, *event), times=self.times(steps), noise=noise)

        return draw

    def edit(
        self,
        denoiser: Denoiser,
        z: Tensor,
        normal: Tensor,
        noise: Noise,
        *,
        amount: float = 10.0,
        level: float = 0.3,
        steps: int = 20,
    ) -> Tensor:
        """z - amount normal / |normal|, noised to the time `level` and brought back by DDIM: codes, (B, *event).

        Args:
            normal: (*event), of the boundary, such as `Classifier.weight[c]`; amount < 0 moves towards its class.

        Source: Sinha et al. 2021 (2106.06819) algorithm 2; the amount: public code.
        """
        process = denoiser.process
        assert isinstance(process, Gaussian)
        moved = process.marginal(z - amount * normal / normal.norm(), level).sample(noise)
        times = grids.uniform(steps, start=level)
        return sample(denoiser, self.sampler(), x1=moved, times=times, noise=noise)


@dataclass(frozen=True)
class Classifier:
    """r(c | z) = softmax(weight z + bias): what few labels are enough for.

    Args:
        weight: (classes, *event).
        bias: (classes,).
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fitted(cls, z: Tensor, labels: Tensor, classes: int, *, decay: float = 0.1, steps: int = 100) -> Classifier:
        """The logistic regression of labels (B,) on codes (B, *event): mean cross-entropy + decay / 2 |weight|^2."""
        rows = z.detach().double().flatten(1)
        weight = torch.zeros(classes, rows.shape[1], dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(rows @ weight.T + bias, labels) + 0.5 * decay * weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)  # type: ignore[arg-type]
        return cls(weight.detach().to(z).reshape(classes, *z.shape[1:]), bias.detach().to(z))

    def probs(self, z: Tensor) -> Tensor:
        """r(. | z), (B, classes)."""
        return torch.softmax(z.flatten(1) @ self.weight.flatten(1).T + self.bias, 1)

    def of(self, label: int) -> Callable[[Tensor], Tensor]:
        """r(label | .), (B, *event) to (B,)."""
        return lambda z: self.probs(z)[:, label]


def reject(
    draw: Source, accept: Callable[[Tensor], Tensor], n: int, noise: Noise, *, batch: int = 256, limit: int = 100_000
) -> tuple[Tensor, int]:
    """(n draws z of the law p(z) accept(z) / Z, how many draws of p it took).

    Each z ~ p is kept with the probability accept(z). The share that is kept estimates Z, if n is large.

    Args:
        draw: of p.
        accept: (B, *event) to probabilities (B,).
        limit: draws after which it gives up.

    Raises:
        RuntimeError: where fewer than n were kept by then.

    Source: Sinha et al. 2021 (2106.06819) algorithm 1.
    """
    kept: list[Tensor] = []
    count = asked = 0
    while count < n:
        if asked >= limit:
            raise RuntimeError(f"{count} of {n} were kept in {asked} draws: the condition is rare, raise `limit`.")
        z = draw(batch, noise)
        p = accept(z)
        where = noise.uniform(p) < p
        # What comes after the n-th kept draw is as if it had not been drawn.
        order = where.cumsum(0)
        used = int((order < n - count).sum()) + 1 if int(order[-1]) >= n - count else batch
        kept.append(z[:used][where[:used]])
        count, asked = count + len(kept[-1]), asked + used
    return torch.cat(kept), asked
