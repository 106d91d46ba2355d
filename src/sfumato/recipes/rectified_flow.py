"""Rectified flow and flow matching (Liu et al. 2023, 2209.03003; Lipman et al. 2023, 2210.02747), with couplings."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_flow
from sfumato.noise import Noise
from sfumato.processes import Anchored, Rectified
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Euler
from sfumato.training import Matching, Pairs, Source, Uniform, couplings, output_weight, reflow


@dataclass(frozen=True)
class Recipe(Pictures):
    """Straight paths between data and noise, or between two laws: x_t = (1 - t) x_0 + t x_1, and a velocity learned.

    L = E |v(x_t, t) - (x_1 - x_0)|^2, t uniform, D = x_t - t v, on the process `Rectified`: every sampler of the flow
    runs it. The pairs are independent, or put in order by optimal transport within each batch (`optimal`: OT-CFM), or
    made by a flow that was trained before (`reflow`), whose paths the next one makes straight. `source` and a coupling
    of your own go into `objective`. Networks are the library's (ours); t runs from data to noise, in both papers the
    other way.

    Limits: a coupling by minibatch is biased towards independence; it needs the extra `ot`.

    Source: Liu et al. 2023 (2209.03003) eq. 1 and algorithm 1; Lipman et al. 2023 (2210.02747) eq. 23; Tong et al. 2024
    (2302.00482) section 3.2 for the coupling.
    """

    optimal: bool = False  # minibatch optimal transport between data and noise
    steps: int = 100  # of Euler's rule

    def process(self) -> Rectified:
        """alpha = 1 - t, sigma = t."""
        return Rectified()

    def path(self) -> Anchored:
        """x_t = (1 - t) x_0 + t x_1, nothing added."""
        return Anchored(Rectified(), scale=0.0)

    def model(self) -> Preconditioned:
        """The untrained denoiser; its network is the velocity."""
        return Preconditioned(self.net(), self.process(), predict_flow)

    def objective(
        self, denoiser: Denoiser, source: Source | None = None, coupling: couplings.Coupling | None = None
    ) -> Matching:
        """The loss on the velocity.

        Args:
            source: of x_1; N(0, I) if not given.
            coupling: by the field `optimal` if not given.
        """
        chosen = coupling or (couplings.optimal if self.optimal else couplings.independent)
        return Matching(denoiser, self.path(), source, chosen, Uniform(), output_weight(predict_flow))

    def straight(self, denoiser: Denoiser) -> Matching:
        """The loss on the velocity for data that come in pairs, such as those of `reflow`."""
        return Matching(denoiser, self.path(), None, times=Uniform(), weight=output_weight(predict_flow), paired=True)

    def sampler(self) -> Euler:
        """Euler's rule."""
        return Euler()

    def times(self) -> tuple[float, ...]:
        """A uniform grid."""
        return grids.uniform(self.steps)

    def pairs(self, denoiser: Denoiser, source: Source, n: int, noise: Noise) -> Pairs:
        """n pairs that the trained flow makes, for `straight`."""
        return reflow(denoiser, self.sampler(), source, n, times=self.times(), noise=noise)
