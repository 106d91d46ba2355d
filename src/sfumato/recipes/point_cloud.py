"""Diffusion probabilistic models for 3D point cloud generation (Luo & Hu 2021, 2103.01458)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.base import Given, Wrapper
from sfumato.estimate import Estimate
from sfumato.nets import RealNVP
from sfumato.nets.clouds import PointNet, Pointwise
from sfumato.noise import Noise
from sfumato.processes import Table, Time
from sfumato.processes.variances import between
from sfumato.samplers import Ancestral, Sampler
from sfumato.training import Denoising, Steps, eps_weight

EXAMPLE = (
    "sfumato train SHAPES --recipe point-cloud --size 512 -o run && sfumato sample run -o clouds   # a folder of OBJ"
)


class Shaped(Wrapper):
    """The denoiser of clouds (B, 3, P) given the code of their shape, with what makes codes: of clouds, and of noise.

    Args:
        inner: its condition {"code": (B, d)}.
        encoder: a cloud to the mean and the log-variance of its code.
        flow: numbers w ~ N(0, I) to codes; None for an autoencoder, which draws none.
        recipe: whose sampler and truncation it draws with.
    """

    def __init__(self, inner: Denoiser, encoder: PointNet, flow: RealNVP | None, recipe: Recipe) -> None:
        super().__init__(inner)
        self.encoder, self.flow, self.recipe = encoder, flow, recipe

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        if not isinstance(cond, dict) or "code" not in cond:
            raise ValueError(
                'a cloud is denoised given the code of its shape: give {"code": (B, d)}, from `encode`, or draw with '
                "the recipe's own sampler, which draws the codes too."
            )
        return self.inner(xt, t, cond)

    def encode(self, x0: Tensor) -> Tensor:
        """The mean of q(z | X), (B, d), of clouds (B, 3, P): their condition is {"code": z}."""
        mean: Tensor = self.encoder(x0)[0]
        return mean

    def code(self, count: int, noise: Noise) -> Tensor:
        """Codes z = F(w), (count, d), w ~ N(0, I) held to |w| < `truncate`, by the inverse of its distribution."""
        if self.flow is None:
            raise ValueError('an autoencoder draws no shapes: give it codes, cond={"code": denoiser.encode(x0)}.')
        like = next(self.flow.parameters())
        u = noise.uniform(torch.empty(count, self.recipe.code, dtype=torch.float64))
        low = 0.5 * math.erfc(self.recipe.truncate / math.sqrt(2.0))
        w = torch.special.ndtri(low + u * (1.0 - 2.0 * low))
        z: Tensor = self.flow(w.to(like))[0]
        return z

    def drawing(self) -> tuple[Coded, tuple[float, ...]]:
        """The recipe's sampler, which draws the codes first, and its times."""
        return Coded(self, self.recipe.sampler()), self.recipe.times()


@dataclass(frozen=True)
class Coded(Sampler):
    """`sampler`, given a code that is drawn for each row before the first step; a condition that is bound stays.

    Memory: that of `sampler`, and the code.
    """

    shapes: Shaped
    sampler: Sampler

    def __repr__(self) -> str:
        return f"Coded({self.sampler!r})"

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.sampler.init(denoiser, xt), None

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        inner, code = memory
        if not isinstance(denoiser, Given):
            code = self.shapes.code(len(xt), noise).to(xt) if code is None else code
            denoiser = denoiser.given({"code": code})
        xs, inner = self.sampler.step(denoiser, xt, t, s, inner, noise)
        return xs, (inner, code)


class Bound(nn.Module):
    """mean |eps - eps_hat(x_n, n, z)|^2 + weight (log q(z | X) - log p(z)), z ~ q(z | X), one n for each cloud, (B,).

    -E log q is the entropy 0.5 sum (1 + log 2 pi + log s^2); log p(z) = log N(w; 0, I) + log |det dw / dz| for
    w = F^-1(z). Without a flow z is the mean and the first term is all: the autoencoder.
    """

    def __init__(self, denoiser: Shaped, steps: int, weight: float) -> None:
        super().__init__()
        self.denoiser, self.weight = denoiser, weight
        self.clouds = Denoising(denoiser.inner, Steps(steps), eps_weight)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        mean, log_var = self.denoiser.encoder(x0)
        if self.denoiser.flow is None:
            return self.clouds(x0, {"code": mean}, noise)  # type: ignore[no-any-return]
        z = mean + (0.5 * log_var).exp() * noise.normal(mean)
        w, volume = self.denoiser.flow.inverse(z)
        constant = math.log(2.0 * math.pi)
        entropy = 0.5 * (1.0 + constant + log_var).sum(1)
        log_prior = -0.5 * (w.square() + constant).sum(1) + volume
        loss: Tensor = self.clouds(x0, {"code": z}, noise) - self.weight * (entropy + log_prior)
        return loss


@dataclass(frozen=True)
class Recipe:
    """Points that diffuse one by one, given a code z of the shape that they are drawn from: any number of them.

        X = {x^i},  p(X | z) = prod_i p(x^i | z),  z = F(w), w ~ N(0, I),  q(z | X) = N(mean(X), s^2(X)),
        L = E |eps - eps_hat(x_n, beta_n, z)|^2 + weight (E log q(z | X) - E log p(z)),
        x_{n-1} = (x_n - beta_n / sqrt(1 - abar_n) eps_hat) / sqrt(1 - beta_n)
                  + (flexibility sqrt(beta_n) + (1 - flexibility) sqrt(btilde_n)) noise,  none at n = 1.

    Clouds are (3, P), each with mean 0 and one standard deviation 1 (`data.points`); the encoder takes the maximum over
    points, so that no order matters, and the loss pairs no two clouds. `autoencoder()` is the paper's other model: z is
    the encoder's mean, with other levels; it draws nothing by itself.

    The network is told beta_n itself, 1e-4 .. 0.02, which hardly varies; `factor` multiplies it (ours: 1 is the
    paper's, 50 tells the levels apart). The chain of 100 steps ends at alpha^2 = 0.364 and begins at N(0, I) all the
    same, so that a part of the start, alpha s^2 / (alpha^2 s^2 + sigma^2) for data of variance s^2, is seen in the end.
    The flow is the library's RealNVP (halves drawn anew for each coupling, one hidden layer; ours), |w| < `truncate` is
    exact where the public code tries four times (ours), layer norms stand for batch norms (ours). The paper trains with
    Adam at 2e-3, batches of 128, for 400,000 steps. One model is for one kind of shape.

    Source: Luo & Hu 2021 (2103.01458) eq. 2 to 13, algorithms 1 and 2, section 4; public code.
    """

    takes: ClassVar[str] = "points"  # of the data that `sfumato train` reads for it
    unsized: ClassVar[bool] = True  # a model of any number of points

    code: int = 256  # numbers of z
    widths: tuple[int, ...] = (128, 256, 512, 256, 128)
    encoder: tuple[int, ...] = (128, 128, 256, 512)
    couplings: int = 14
    hidden: int = 256  # of each coupling
    steps: int = 100  # N
    first: float = 1e-4  # beta_1
    last: float = 0.02  # beta_N
    weight: float = 0.001  # of the terms of z
    flexibility: float = 0.0
    truncate: float = 2.0
    factor: float = 1.0
    variational: bool = True

    def __post_init__(self) -> None:
        if not self.truncate > 0.0:
            raise ValueError(f"truncate is above 0: |w| < truncate, got {self.truncate}.")

    @classmethod
    def autoencoder(cls, **fields: Any) -> Recipe:
        """The autoencoder: 200 steps to beta 0.05, z the mean of the encoder."""
        return cls(**{"steps": 200, "last": 0.05, "variational": False, **fields})

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.steps, self.first, self.last)

    def level(self, t: Time) -> Time:
        """factor beta_n at t = n / N, linear between."""
        return self.factor * (self.first + (self.last - self.first) * (t * self.steps - 1.0) / (self.steps - 1))

    def model(self) -> Shaped:
        """The untrained denoiser, encoder and flow."""
        net = Pointwise(self.code, tuple(self.widths))
        inner = Preconditioned(net, self.process(), predict_eps, clock=self.level)
        flow = RealNVP(self.code, self.couplings, self.hidden, noise=Noise(0)) if self.variational else None
        return Shaped(inner, PointNet(self.code, tuple(self.encoder)), flow, self)

    def objective(self, denoiser: Shaped) -> Bound:
        """The loss on clouds (B, 3, P)."""
        return Bound(denoiser, self.steps, self.weight)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the mixed deviation, for a denoiser that is given its codes."""
        return Ancestral(between(self.flexibility))

    def times(self) -> tuple[float, ...]:
        """All N levels and 0."""
        return grids.table(self.process(), self.steps)
