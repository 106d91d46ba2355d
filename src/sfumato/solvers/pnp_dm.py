"""PnP-DM: probabilistic imaging with diffusion models as plug-and-play priors (Wu et al. 2024, 2405.18782)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Ancestral, Sampler, Times
from sfumato.solvers.conditional import langevin, sample_gaussian
from sfumato.solvers.on_data import OnData, clean, noise_level


@dataclass(frozen=True)
class PnPDM(OnData):
    """Split Gibbs sampling: likelihood and prior in turn, tied by a Gaussian of width rho.

    z ~ N(y; A z, sigma_y^2 I) N(z; x, rho^2 I),   x ~ p(x_0 | x_0 + rho n = z): the reverse process from level rho.

    The stationary law of x at a fixed rho is the posterior with sigma_y^2 I + rho^2 A A^T for the noise, so nothing is
    exact before rho goes to 0, where modes no longer mix: hence rho_k = max(first decay^k, rho). The states of a
    trajectory are the chain. The second draw must be a draw: with an ODE (the public code's default mode) the spread
    along A falls to a third. A time is shared by the batch.

    Args:
        steps: iterations.
        rho: last width, sigma / alpha; in the unit of x_0 in model space.
        first, decay: of the annealing.
        prior_steps: network evaluations of each prior draw.
        sampler: of the prior draw; any that draws from the reverse process.
        curve: exponent of the grid of levels from rho to 0.002.
        moves, size: Langevin moves of the likelihood draw where the operator is not linear, or the noise not Gaussian;
            else it is exact.

    Source: Wu et al. 2024 (2405.18782) algorithm 1; annealing of its linear experiments.
    """

    steps: int = 100
    rho: float = 0.3
    first: float = 10.0
    decay: float = 0.9
    prior_steps: int = 100
    sampler: Sampler = field(default_factory=Ancestral)
    curve: float = 7.0
    moves: int = 100
    size: float = 1e-4
    climbs = True

    def __post_init__(self) -> None:
        if not (self.rho > 0.0 and self.first > 0.0 and 0.0 < self.decay <= 1.0):
            raise ValueError(
                f"{type(self).__name__}: rho > 0, first > 0 and decay in (0, 1], got {self.rho}, {self.first}, "
                f"{self.decay}."
            )

    def times(self, process: Gaussian) -> Times:
        widths = (max(self.first * self.decay**k, self.rho) for k in range(self.steps))
        return (*(process.time_of(-2.0 * math.log(width)) for width in widths), 0.0)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float)
        rho = noise_level(process, t)
        if isinstance(m.operator, Linear) and m.likelihood is None:
            z = sample_gaussian(m, xt, rho, noise)
        elif m.sigma > 0.0 or m.likelihood is not None:
            z = langevin(m, xt, rho, noise, sigma=m.sigma, moves=self.moves, size=self.size)
        else:
            raise ValueError(f"{type(self).__name__}: Langevin moves need sigma_y > 0 where A is not linear.")
        noisy = process.marginal(z, t).mean
        x = clean(denoiser, self.sampler, noisy, t, noise, steps=self.prior_steps, rho=self.curve)
        return x, memory
