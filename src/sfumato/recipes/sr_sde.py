"""SR-SDE: face super-resolution using stochastic differential equations (dos Santos et al. 2022, 2209.12064)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.denoisers import Denoiser, Preconditioned
from sfumato.processes import Gaussian
from sfumato.recipes import score_sde
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Sampler
from sfumato.training import Denoising

EXAMPLE = """\
sfumato train FOLDER --recipe sr-sde --damage enlarge:8 --size 64 --set kind=vp -o run
sfumato enhance small.png --model run --samples 4 -o out"""


@dataclass(frozen=True)
class Recipe(Restorer):
    """Score SDE (VE, VP or sub-VP) whose network sees the enlarged picture beside x_t; predictor and corrector.

    Only x_0 is diffused: L = E_t |sigma s(x_t, y_up, t) + eps|^2, t ~ U(1e-5, 1), s the score. y_up reaches the network
    as it is, whatever the scale of x_t. Drawing goes down N levels, at each a step of reverse diffusion and `moves`
    Langevin moves with e = 2 (snr |z| / |s|)^2, norms over the diffused channels of one sample (`score-sde` has the
    formulas); the last noise is taken away.

    The paper's pictures are in [0, 1] under VE, with sigma from 0.01 to 348, near the largest distance between two of
    them; here they are in [-1, 1], and both ends are twice that. Each step of N = 2000 levels has 1 + `moves` calls;
    `steps` counts levels.

    Args:
        kind: "ve", "vp" or "sub-vp".
        sigma_min, sigma_max: ends of VE.
        beta_min, beta_max: ends of VP and sub-VP.
        snr: r of the corrector; 0: none.
        moves: corrector moves at each level.

    Source: dos Santos et al. 2022 (2209.12064) section III and public code; Song et al. 2021 (2011.13456) algorithms 2
    and 3.
    """

    calls: int = 2000
    kind: str = "ve"
    sigma_min: float = 0.02
    sigma_max: float = 696.0
    beta_min: float = 0.1
    beta_max: float = 20.0
    snr: float = 0.075
    moves: int = 1

    def __post_init__(self) -> None:
        self.sde()

    def sde(self, steps: int | None = None) -> score_sde.Recipe:
        """The recipe of the process, its loss and its sampler, with `steps` levels."""
        return score_sde.Recipe(
            kind=self.kind,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            beta_min=self.beta_min,
            beta_max=self.beta_max,
            snr=self.snr,
            moves=self.moves,
            steps=steps or self.calls,
        )

    def process(self) -> Gaussian:
        """The process that `kind` names."""
        return self.sde().process()

    def model(self) -> Denoiser:
        """The untrained denoiser: s = F / sigma under VE, eps under VP and sub-VP."""
        return Preconditioned(self.net(), self.process(), self.sde().scheme())

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The score loss with weight sigma^2."""
        return self.sde().objective(denoiser)

    def sampler(self) -> Sampler:
        """Reverse diffusion, then the corrector."""
        return self.sde().sampler()

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """`steps` levels: down to sigma_min under VE; down to t = 1e-3 and then 0 under VP and sub-VP."""
        return self.sde(steps).times()
