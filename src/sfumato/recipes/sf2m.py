"""[SF]2M: Schroedinger bridges by score and flow matching, without simulation (Tong et al. 2024, 2307.03672)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.base import Wrapper
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Brownian, Pinned, Rectified, Time
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Ancestral, Euler, sample
from sfumato.training import Matching, Source, Uniform, couplings, eps_weight


@dataclass(frozen=True)
class Recipe(Pictures):
    """The Schroedinger bridge between two laws from Brownian bridges between ends that entropic transport couples.

    x_t ~ N((1 - t) x_0 + t x_1, sigma^2 t (1 - t)), (x_0, x_1) ~ the entropic plan of the batch, temperature 2 sigma^2.
    The paper learns the flow and the score of x_t; here the two means D_0 = E[x_0 | x_t] and D_1 = E[x_1 | x_t] are
    learned, which are linear in them (ours):

        dx = (x - D_0) / t dt + sigma dW  backward in t,      dx = (D_1 - x) / (1 - t) dt + sigma dW  forward,
        flow = ((x - D_0) / t + (D_1 - x) / (1 - t)) / 2,     score = ((x - D_0) / t - (D_1 - x) / (1 - t)) / -sigma^2.

    D_0 is a denoiser on `Brownian(sigma)`: `Ancestral` walks the bridge from x_1 to x_0. D_1 is one too, with the ends
    exchanged. Train one side to run it, both for the flow, which is deterministic.

    Limits: the minibatch plan is biased towards independence. The plan needs the extra `ot`.

    Source: Tong et al. 2024 (2307.03672) eq. 8, 10 and 11, proposition 3.1, algorithm 1; MIT code of the authors.
    """

    sigma: float = 1.0
    steps: int = 100

    def process(self) -> Brownian:
        """What a side denoises: x_t = x_0 + sigma sqrt(t) eps, though x_t is drawn from the bridge."""
        return Brownian(self.sigma)

    def path(self) -> Pinned:
        """The Brownian bridge."""
        return Pinned(self.process())

    def model(self) -> Preconditioned:
        """One untrained side: D_0, or D_1 in its own time. The network predicts (x_t - x_0) / (sigma sqrt(t))."""
        return Preconditioned(self.net(), self.process(), predict_eps, clock=lambda t: t)

    def objective(
        self, denoiser: Denoiser, source: Source | None = None, coupling: couplings.Coupling | None = None
    ) -> Matching:
        """The loss of one side: data are its own end, `source` draws the other (N(0, I) if not given).

        Args:
            coupling: the entropic plan of the batch if not given.
        """
        plan = coupling or couplings.Entropic(self.sigma**2)
        return Matching(denoiser, self.path(), source, plan, Uniform(), eps_weight)

    def times(self) -> tuple[float, ...]:
        """A uniform grid."""
        return grids.uniform(self.steps)

    def cross(self, side: Denoiser, x1: Tensor, noise: Noise) -> Tensor:
        """The end that `side` was trained on, (B, *event), along the bridge from the other end."""
        return sample(side, Ancestral(), x1=x1, times=self.times(), noise=noise)

    def flow(self, near: Denoiser, far: Denoiser, x1: Tensor) -> Tensor:
        """x_0 from x_1 along the flow, whose marginals are the bridge's, (B, *event): deterministic."""
        # Both velocities are finite inside; at t = 1 the far one is not asked.
        return sample(Flow(near, far), Euler(), x1=x1, times=self.times(), noise=Noise(0))


class Flow(Wrapper):
    """Two sides as one denoiser on `Rectified`, D = x - t v with v the flow of the bridge.

    At t = 1 the end is known, D_1 = x, and v is x_1 - D_0 there. `far` runs in the time 1 - t.
    """

    def __init__(self, near: Denoiser, far: Denoiser) -> None:
        super().__init__(near)
        self.far = far

    @property
    def process(self) -> Rectified:  # type: ignore[override]
        return Rectified()

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        assert isinstance(t, float)
        back = (xt - self.inner(xt, t, cond).mean) / t
        if t >= 1.0:
            return Estimate(xt - back)
        there = (self.far(xt, 1.0 - t, cond).mean - xt) / (1.0 - t)
        return Estimate(xt - 0.5 * t * (back + there))
