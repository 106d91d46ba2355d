"""sCM: simplifying, stabilizing and scaling continuous-time consistency models (Lu & Song 2025, 2410.11081)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.denoisers import Denoiser, Preconditioned, trig
from sfumato.processes import Trigonometric
from sfumato.recipes.pictures import Labelled
from sfumato.samplers import Consistency
from sfumato.training import Denoising, LogNormal, output_weight
from sfumato.training.scm import ContinuousConsistency


@dataclass(frozen=True)
class Recipe(Labelled):
    """Consistency without levels: the tangent of f along the flow, normalised, drives the network.

    TrigFlow: x_t = cos(t) x_0 + sin(t) z, z ~ N(0, sd^2), f = cos(t) x_t - sin(t) sd F(x_t / sd, t). `teacher` is the
    loss of an ordinary denoiser with this network (|sd F - dx/dt|^2), which may come first; `objective` is sCT,
    `distill(denoiser, teacher)` sCD. The network is the library's U-Net, its clock the library's and not the paper's
    positional one, and it has no adaptive double normalisation (ours). Sample with `sampler()`, and no other:
    `model.sample(16, steps=1, sampler=samplers.Consistency())`.

    Args:
        mean, std: of log(sigma / alpha), log(sd tan t) in the paper's terms.
        warmup: steps over which the second term of the tangent comes in.
        constant: c of the normalisation.

    Source: Lu & Song 2025 (2410.11081) eq. 4 and algorithm 1.
    """

    sigma_data: float = 0.5
    mean: float = -1.0
    std: float = 1.4
    warmup: int = 10_000
    constant: float = 0.1

    def process(self) -> Trigonometric:
        """TrigFlow."""
        return Trigonometric(self.sigma_data)

    def model(self) -> Preconditioned:
        """The untrained function; the network is told the angle."""
        return Preconditioned(self.net(), self.process(), trig(self.sigma_data))

    def teacher(self, denoiser: Denoiser) -> Denoising:
        """The loss of E[x_0 | x_t] with the same network, |F - target|^2."""
        weight = output_weight(trig(self.sigma_data))
        return Denoising(denoiser, LogNormal(self.mean, self.std), weight, **self.dropping())

    def objective(self, denoiser: Preconditioned) -> ContinuousConsistency:
        """sCT."""
        return self.distill(denoiser, None)

    def distill(self, denoiser: Preconditioned, teacher: Denoiser | None) -> ContinuousConsistency:
        """sCD, of a teacher on the same process."""
        times = LogNormal(self.mean, self.std)
        return ContinuousConsistency(denoiser, teacher, times, warmup=self.warmup, constant=self.constant)

    def sampler(self) -> Consistency:
        """One call a step."""
        return Consistency()
