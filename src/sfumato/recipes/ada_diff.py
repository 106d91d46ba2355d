"""AdaDiff: adaptive diffusion priors for accelerated MRI reconstruction (Güngör et al. 2023, 2207.05876)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.denoisers import Denoiser, Preconditioned, predict_x0
from sfumato.estimate import Estimate
from sfumato.nets import UNet
from sfumato.nets.critic import Critic
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Table, Time
from sfumato.samplers import Times
from sfumato.solvers import Solver
from sfumato.solvers.base import indexed

EXAMPLE = """\
import sfumato as sf
recipe = sf.recipes.load("ada-diff").Recipe()
denoiser, critic = recipe.model(), recipe.discriminator()
turns = recipe.judge(denoiser, critic), recipe.generator(denoiser, critic)  # losses (x0, None, noise), trained in turn
x0 = recipe.solver()(denoiser, measurement, sf.Noise(0))"""


@dataclass(frozen=True)
class Recipe:
    """A diffusion prior of few wide steps, trained as a GAN, and fitted to each measurement when it reconstructs.

    x_0' = G(x_t, t, z) from a latent z, x_s' ~ q(x_s | x_t, x_0'), s one of T levels below t; a discriminator tells
    x_s' from x_s beside x_t. With non-saturating losses and a penalty R1 on every `every`-th step:

        L_D = softplus(-C(x_s)) + softplus(C(x_s')) + gamma / 2 |grad C(x_s)|^2,    L_G = softplus(-C(x_s')).

    The prior never sees a measurement; `solver()` does: `Adapted`. The levels are those of VP with linear beta at T + 1
    times evenly between 1e-3 and 1, the first of which counts as clean.

    Networks are the library's, z enters as a vector beside the time (ours; the published ones are NCSN++ and that of
    denoising diffusion GANs).

    Args:
        steps: T.
        latent: numbers of z.
        gamma, every: of R1, as the read-me has them.

    Source: Güngör et al. 2023 (2207.05876) section 2; Xiao et al. 2022 (2112.07804) for the prior; public code.
    """

    channels: int = 1
    widths: tuple[int, ...] = (64, 64, 128, 128)
    blocks: int = 2
    steps: int = 8
    beta_min: float = 0.1
    beta_max: float = 20.0
    latent: int = 100
    gamma: float = 1.0
    every: int = 10

    def process(self) -> Table:
        """The T levels."""

        def bar(t: float) -> float:
            return math.exp(-self.beta_min * t - 0.5 * (self.beta_max - self.beta_min) * t * t)

        first = 1e-3
        return Table(tuple(bar(first + (1 - first) * n / self.steps) / bar(first) for n in range(1, self.steps + 1)))

    def net(self) -> UNet:
        """The untrained network, told z."""
        return UNet(self.channels, tuple(self.widths), self.blocks, vector=self.latent)

    def model(self) -> Preconditioned:
        """The untrained generator: a denoiser under {"vector": z}."""
        return Preconditioned(self.net(), self.process(), predict_x0)

    def discriminator(self) -> Critic:
        """The untrained discriminator."""
        return Critic(self.channels)

    def generator(self, denoiser: Denoiser, discriminator: nn.Module) -> Generator:
        """L_G."""
        return Generator(denoiser, discriminator, self.steps, self.latent)

    def judge(self, denoiser: Denoiser, discriminator: nn.Module) -> Judge:
        """L_D."""
        return Judge(denoiser, discriminator, self.steps, self.latent, self.gamma, self.every)

    def solver(self) -> Adapted:
        """Rapid sampling, then adaptation."""
        return Adapted(self.steps, latent=self.latent)


class _Pairs(nn.Module):
    """What both losses share: neighbouring states of the process, and the generator's."""

    def __init__(self, denoiser: Denoiser, discriminator: nn.Module, steps: int, latent: int) -> None:
        super().__init__()
        self.denoiser, self.discriminator, self.steps, self.latent = denoiser, discriminator, steps, latent

    def _draw(self, x0: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x_s, x_s', x_t, t)."""
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        n = (noise.uniform(torch.empty(len(x0), dtype=torch.float64)) * self.steps).floor() + 1.0
        t, s = ((n - k).to(x0.device) / self.steps for k in (0, 1))
        xs = process.marginal(x0, s).sample(noise)
        xt = process.forward(xs, s, t).sample(noise)
        z = noise.normal(x0.new_empty(len(x0), self.latent))
        guess = Estimate(self.denoiser(xt, t, {"vector": z}).mean)
        return xs, process.reverse(guess, xt, t, s).sample(noise), xt, t


class Generator(_Pairs):
    """L_G of `Recipe`, (B,). Only the denoiser is to be given to the optimizer."""

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        _, fake, xt, t = self._draw(x0, noise)
        return F.softplus(-self.discriminator(fake, xt, t))


class Judge(_Pairs):
    """L_D of `Recipe`, (B,), with R1 on every `every`-th step of `advance`; no gradient reaches the denoiser."""

    def __init__(
        self, denoiser: Denoiser, discriminator: nn.Module, steps: int, latent: int, gamma: float, every: int
    ) -> None:
        super().__init__(denoiser, discriminator, steps, latent)
        self.gamma, self.every, self.step = gamma, every, 0

    def advance(self, step: int) -> None:
        """Which step of training comes."""
        self.step = step

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        real, fake, xt, t = self._draw(x0, noise)
        real = real.detach().requires_grad_()
        said: Tensor = self.discriminator(real, xt, t)
        loss: Tensor = F.softplus(-said) + F.softplus(self.discriminator(fake.detach(), xt, t))
        if self.step % self.every:
            return loss
        (slope,) = torch.autograd.grad(said.sum(), real, create_graph=True)
        return loss + 0.5 * self.gamma * slope.flatten(1).square().sum(1)


@dataclass(frozen=True)
class Adapted(Solver):
    """Few steps of the prior with what was measured put in its place, then the generator's weights fitted to y.

    1. From the zero-filled image: D = G(x_t, t, z), D <- D + A^+ (y - A D), x_s ~ q(x_s | x_t, D); at the end
       x = G(x_0, 1 / T, z).
    2. Adam on |y - A G(x, 1 / T, z)| over the weights of G, z fixed, `iterations` times; the result is projected once
       more, so that A x = y with whatever noise y has. The weights are those of the prior again for every row, so
       that a result does not depend on its batch.

    Complex images keep their phase, where the public code for one coil takes magnitudes after each projection. The
    error is that of the real numbers of y (ours; the code's is the modulus of complex ones).

    Limits: too many iterations fit the noise of y. A row costs `iterations` passes and gradients of the network.

    Args:
        steps: T, those of the prior.
        iterations, lr: of the adaptation; 0 leaves it out.
        power: of the error, 1 or 2.
        latent: numbers of z.
        black: the image that the zero-filled one is filled into, model space.

    Source: Güngör et al. 2023 (2207.05876) section 2.3; settings of the public code.
    """

    steps: int = 8
    iterations: int = 1000
    lr: float = 1e-3
    power: int = 1
    latent: int = 100
    black: float = -1.0
    needs = Linear
    differentiates = True

    def __post_init__(self) -> None:
        if self.power not in (1, 2) or self.iterations < 0:
            raise ValueError(
                f"Adapted: power is 1 or 2 and iterations at least 0, got {self.power} and {self.iterations}."
            )

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "trailing")

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        """The zero-filled image; no noise."""
        return projected(m, torch.full_like(self.like(denoiser, m), self.black))

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, z = denoiser.process, self._latent(xt, noise)
        D = projected(m, denoiser(xt, t, {"vector": z}).mean)
        x = process.reverse(Estimate(D), xt, t, s).sample(noise)
        if s > 0.0:  # type: ignore[operator]
            return x, memory
        last = 1.0 / self.steps
        x, z = denoiser(x, last, {"vector": z}).mean, self._latent(xt, noise)
        if not self.iterations:
            return projected(m, x), memory
        fitted = [self.adapt(denoiser, m.rows([i]), x[i : i + 1], z[i : i + 1], last) for i in range(len(x))]
        return torch.cat(fitted), memory

    def adapt(self, denoiser: Denoiser, m: Measurement, x: Tensor, z: Tensor, t: float) -> Tensor:
        """The reconstruction of one row, by a copy of the denoiser that is fitted to it."""
        own = copy.deepcopy(denoiser).requires_grad_(True)
        optimizer = torch.optim.Adam(own.parameters(), self.lr, betas=(0.5, 0.9))
        with torch.enable_grad():
            for _ in range(self.iterations):
                optimizer.zero_grad()
                (m.residual(own(x, t, {"vector": z}).mean).abs() ** self.power).mean().backward()
                optimizer.step()
        with torch.no_grad():
            return projected(m, own(x, t, {"vector": z}).mean)

    def _latent(self, like: Tensor, noise: Noise) -> Tensor:
        return noise.normal(like.new_empty(len(like), self.latent))


def projected(m: Measurement, x: Tensor) -> Tensor:
    """x + A^+ (y - A x): what was measured put in its place."""
    assert isinstance(m.operator, Linear)
    return x + m.operator.pinv(m.residual(x))
