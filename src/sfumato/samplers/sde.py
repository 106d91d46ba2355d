"""Steps of stochastic differential equations: `simulate` for any, two predictors for the reverse SDE of a process.

Score SDE (Song et al. 2021, 2011.13456). The third predictor of the paper, ancestral sampling, is `Ancestral`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time
from sfumato.samplers.base import Sampler

Coefficients = Callable[[Tensor, float], Tensor | float]


def simulate(
    drift: Coefficients, diffusion: Coefficients, x: Tensor, times: Sequence[float], noise: Noise
) -> Iterator[Tensor]:
    """Yields the state after each step of dx = drift dt + diffusion dw by Euler and Maruyama, (B, *event).

        x <- x + drift(x, t) (s - t) + diffusion(x, t) sqrt(|s - t|) z

    Times may rise or fall; a diffusion of 0.0 draws no noise.
    """
    for t, s in pairwise(times):
        move, spread = drift(x, t) * (s - t), diffusion(x, t)
        x = x + move
        if isinstance(spread, Tensor) or spread != 0.0:
            x = x + spread * math.sqrt(abs(s - t)) * noise.normal(x)
        yield x


def last(states: Iterable[Tensor]) -> Tensor:
    """The last of the states, at the end of the grid."""
    (x,) = deque(states, maxlen=1)
    return x


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """One step of the reverse SDE, dx = (f x - (1 + eta^2) / 2 g^2 score) dt + eta g dw, in t. First order in law.

    Every eta >= 0 has the marginals of the process: 1 is the reverse SDE, 0 the probability-flow ODE; SDEFlow's lambda
    is 1 - eta^2. A step to sigma = 0 returns its mean, as the papers' code does in its last step. It needs finite f and
    g at t: not alpha = 0.

    Source: Song et al. 2021 (2011.13456) eq. 6 and appendix E; Huang et al. 2021 (2106.02808) section 5 for eta.
    """

    eta: float = 1.0

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        g = process.sde(t)[1] * process.scale
        last = process.log_snr(s) == math.inf

        def drift(x: Tensor, t: float) -> Tensor:
            D = denoiser(x, t).mean
            # f x + shift' is the velocity of the flow and half of g^2 score; the reverse SDE has all of it.
            return process.velocity(x, D, t) - 0.5 * (self.eta * g) ** 2 * process.score(x, D, t)

        (xs,) = simulate(drift, lambda x, t: 0.0 if last else self.eta * g, xt, (t, s), noise)
        return xs, memory


@dataclass(frozen=True)
class ReverseDiffusion(Sampler):
    """The forward transition s -> t, discretised the same way backwards: first order in law.

        x_s = (2 - r) x_t + q^2 score + q z,   r = alpha_t / alpha_s,  q^2 = sigma_t^2 - r^2 sigma_s^2

    (about the shift, where there is one), with the exact transition of the process, which on a table is the paper's
    beta_n. A step to sigma = 0 returns its mean. Source: Song et al. 2021 (2011.13456) eq. 46 and appendix E.
    """

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        q = process.forward(xt, s, t).std
        r = process.alpha(t) / process.alpha(s)
        u = xt - process.shift(t, xt)
        xs = (2.0 - r) * u + q**2 * process.score(xt, denoiser(xt, t).mean, t) + process.shift(s, xt)
        if process.log_snr(s) < math.inf:
            xs = xs + q * noise.normal(xt)
        return xs, memory
