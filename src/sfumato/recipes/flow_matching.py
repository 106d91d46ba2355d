"""Flow matching (Lipman et al. 2023, 2210.02747), with the times of SD3 (Esser et al. 2024, 2403.03206)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_flow
from sfumato.processes import Rectified
from sfumato.recipes.pictures import Labelled
from sfumato.samplers import Euler
from sfumato.training import CosMap, Denoising, LogitNormal, Mode, Shifted, Uniform, output_weight
from sfumato.training.times import TimeLaw


@dataclass(frozen=True)
class Recipe(Labelled):
    """Straight paths x_t = (1 - t) x_0 + t eps, a network that says their velocity, Euler steps of it.

    Loss |v - v_theta|^2 = |x_0 - D|^2 / t^2, v = eps - x_0; x_s = x_t + (s - t) v. Data and noise are paired at random.
    `Recipe.sd3()` is Esser et al.'s choice: logit-normal times, and for larger pictures a `shift` of times in training
    and sampling alike, t' = k t / (1 + (k - 1) t), which moves log SNR by -2 log k. Time 0 is clean here, 1 in some of
    the papers. The network is the library's U-Net (ours).

    Args:
        law: of t in training: "uniform", "logit-normal", "mode" or "cosmap".
        mean, std: of the logit-normal law.
        mode: s of the law "mode".
        shift: k, sqrt(m / n) for pictures of m pixels and a reference of n; 3 at 1024 pixels a side.
        steps: Euler steps.

    Source: Lipman et al. 2023 (2210.02747) eq. 21 to 23; Liu et al. 2023 (2209.03003) eq. 1; Esser et al. 2024
    (2403.03206) section 3.1 and eq. 23.
    """

    law: str = "uniform"
    mean: float = 0.0
    std: float = 1.0
    mode: float = 1.29
    shift: float = 1.0
    steps: int = 50

    def __post_init__(self) -> None:
        if self.law not in ("uniform", "logit-normal", "mode", "cosmap"):
            raise ValueError(f"law is 'uniform', 'logit-normal', 'mode' or 'cosmap', got {self.law!r}.")

    @classmethod
    def sd3(cls, shift: float = 1.0) -> Recipe:
        """rf/lognorm(0.00, 1.00) of Esser et al. 2024, 28 steps."""
        return cls(law="logit-normal", shift=shift, steps=28)

    def process(self) -> Rectified:
        """alpha = 1 - t, sigma = t."""
        return Rectified()

    def model(self) -> Preconditioned:
        """The untrained denoiser: its network says the velocity and is told t."""
        return Preconditioned(self.net(), self.process(), predict_flow)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The loss on the velocity, a mean over the event."""
        laws: dict[str, TimeLaw] = {
            "uniform": Uniform(1e-5, 1.0),
            "logit-normal": LogitNormal(self.mean, self.std),
            "mode": Mode(self.mode),
            "cosmap": CosMap(),
        }
        times = laws[self.law] if self.shift == 1.0 else Shifted(laws[self.law], self.shift)
        return Denoising(denoiser, times, output_weight(predict_flow), **self.dropping())

    def sampler(self) -> Euler:
        """Euler steps of the velocity."""
        return Euler()

    def times(self) -> tuple[float, ...]:
        """Equal steps, shifted."""
        return grids.shifted(grids.uniform(self.steps), self.shift)
