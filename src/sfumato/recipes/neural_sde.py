"""Neural SDEs: deep latent Gaussian models in the diffusion limit (Tzen & Raginsky 2019, 1905.09883)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.laws import Normal
from sfumato.nets import MLP
from sfumato.noise import Noise
from sfumato.samplers.sde import last, simulate

EXAMPLE = "python benchmarks/bridges.py neural-sde"


class LatentSDE(nn.Module):
    """dX = b(X, t) dt + dW from X_0 = 0 to t = 1, y ~ N(g(X_1), r^2), and a control u(x, t, y) that leads to y.

    Args:
        drift, decoder, control: networks `net(u, c_noise, cond)`; the drift may be None, b = 0.
        dim: numbers in the latent state.
        noise: r to begin with; it is learned (its logarithm).
    """

    def __init__(
        self, drift: nn.Module | None, decoder: nn.Module, control: nn.Module, dim: int, noise: float = 1.0
    ) -> None:
        super().__init__()
        self.drift, self.decoder, self.control, self.dim = drift, decoder, control, dim
        self.log_noise = nn.Parameter(torch.tensor(math.log(noise)))

    def b(self, x: Tensor, t: float) -> Tensor:
        """The prior's drift, (B, dim)."""
        return torch.zeros_like(x) if self.drift is None else self.drift(x, x.new_full((len(x),), t), None)

    def u(self, x: Tensor, t: float, y: Tensor) -> Tensor:
        """The control, (B, dim)."""
        return self.control(x, x.new_full((len(x),), t), y)

    def observed(self, x: Tensor) -> Normal:
        """p(y | X_1 = x)."""
        return Normal(self.decoder(x, x.new_ones(len(x)), None), self.log_noise.exp())


class Girsanov(nn.Module):
    """A bound on -log p(y), (B,), from one path of the controlled diffusion for each row, in nats:

        1/2 integral |u|^2 dt - log p(y | X_1)  (+ integral u dW),   dX = (b + u) dt + dW,   X_0 = 0,

    on an Euler grid of `steps`. It is tight where u = grad_x log E[p(y | X_1) | X_t = x]; with the last term, whose
    mean is 0, it then has no variance either, up to the grid. Gradients flow through the whole path, the state in u
    included; one `Noise` gives one path, so they can be checked by finite differences.

    Source: Tzen & Raginsky 2019 (1905.09883) theorem 3.1 and proposition 4.1.
    """

    def __init__(self, denoiser: LatentSDE, steps: int = 50, *, martingale: bool = True) -> None:
        super().__init__()
        self.denoiser, self.steps, self.martingale = denoiser, steps, martingale

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        model, times, drifts, controls = self.denoiser, clock(self.steps), [], []
        y = x0.flatten(1)

        def drift(x: Tensor, t: float) -> Tensor:
            controls.append(model.u(x, t, y))
            drifts.append(model.b(x, t) + controls[-1])
            return drifts[-1]

        path = [y.new_zeros(len(y), model.dim)]
        path += simulate(drift, lambda x, t: 1.0, path[0], times, noise)
        bound = -model.observed(path[-1]).log_prob(y)
        for i, (t, s) in enumerate(pairwise(times)):
            bound = bound + 0.5 * (s - t) * controls[i].square().sum(1)
            if self.martingale:
                dW = path[i + 1] - path[i] - (s - t) * drifts[i]
                bound = bound + (controls[i] * dW).sum(1)
        return bound


@dataclass(frozen=True)
class Recipe:
    """A latent diffusion from a point to time 1, observed there; inference adds a drift, and Girsanov gives its cost.

    -log p(y) <= E[1/2 integral_0^1 |u|^2 dt - log p(y | X_1)], dX = (b + u) dt + dW. Here process time runs towards the
    observation. The paper is theory: networks, grid and observation noise are (ours); events are vectors. Train it with
    `fit(recipe.objective(recipe.model()), data, ...)`; `evidence` then estimates log p(y) by importance sampling of
    paths, which is tighter than the bound and tells the gap.

    Source: Tzen & Raginsky 2019 (1905.09883) sections 3 to 5.
    """

    dim: int = 2  # of the latent state
    observed: int = 2  # numbers of one y
    width: int = 64
    depth: int = 2
    steps: int = 50  # of the Euler grid
    noise: float = 0.5  # first observation noise
    drift: bool = True  # learn b; False: b = 0, the prior of X_1 is N(0, I)

    def model(self) -> LatentSDE:
        """The untrained drift, decoder and control; the control begins at zero."""
        b = MLP(self.dim, self.width, self.depth, start=0.0) if self.drift else None
        decoder = MLP(self.dim, self.width, self.depth, out=self.observed)
        control = MLP(self.dim, self.width, self.depth, vector=self.observed, out=self.dim, start=0.0)
        return LatentSDE(b, decoder, control, self.dim, self.noise)

    def objective(self, model: LatentSDE) -> Girsanov:
        """The bound on -log p(y), with the martingale term."""
        return Girsanov(model, self.steps)

    @torch.no_grad()
    def evidence(self, model: LatentSDE, y: Tensor, noise: Noise, paths: int = 64) -> Tensor:
        """log p(y), (B,), from below: log mean exp(-bound) over `paths` paths of each row.

        exp(-bound) with the martingale term is an unbiased estimate of p(y) on the grid (Girsanov's weight).
        """
        bounds = Girsanov(model, self.steps)(y.repeat_interleave(paths, 0), None, noise)
        return torch.logsumexp(-bounds.reshape(len(y), paths), 1) - math.log(paths)

    @torch.no_grad()
    def draw(self, model: LatentSDE, n: int, noise: Noise) -> Tensor:
        """n draws of y, (n, observed): the prior's diffusion, then the observation."""
        x = torch.zeros(n, self.dim).to(model.log_noise)
        end = last(simulate(model.b, lambda x, t: 1.0, x, clock(self.steps), noise))
        return model.observed(end).sample(noise)

    @torch.no_grad()
    def infer(self, model: LatentSDE, y: Tensor, noise: Noise) -> Tensor:
        """One draw of X_1 for each y, (B, dim): the controlled diffusion."""

        def drift(x: Tensor, t: float) -> Tensor:
            return model.b(x, t) + model.u(x, t, y)

        x = torch.zeros(len(y), self.dim).to(y)
        return last(simulate(drift, lambda x, t: 1.0, x, clock(self.steps), noise))


def clock(steps: int) -> tuple[float, ...]:
    """0, 1 / steps, .. 1: towards the observation."""
    return tuple(i / steps for i in range(steps + 1))
