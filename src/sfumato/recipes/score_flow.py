"""ScoreFlow: maximum likelihood training of score-based diffusion models (Song et al. 2021, 2101.09258)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.likelihood import Bound, Dequantizer, continuous_elbo
from sfumato.noise import Noise
from sfumato.processes import LinearBeta
from sfumato.recipes.pictures import Pictures
from sfumato.training import Likelihood, UniformLogSNR


@dataclass(frozen=True)
class Recipe(Pictures):
    """Score matching with the weight g(t)^2, which bounds the KL of the data and the model of the reverse SDE.

    KL(p | p_SDE) <= 0.5 integral g^2 E |score - s|^2 dt + KL(p_1 | prior). Times are drawn with density g^2 / sigma^2,
    which makes the weight constant: log SNR is then uniform. `bound` adds the offset of the first noise level with its
    entropy, without which the number is no bound. The likelihood of the flow (`likelihood.log_prob`) is another number,
    which this bound does not hold. Samples are worse than with DDPM's loss. Data in [-1, 1], dequantised: by
    uniform noise, or by `dequantizer()`, which is trained after the score model on `Dequantizer.bound`. The network is
    the library's U-Net, not DDPM++, and the dequantiser's no flow (ours).

    Source: Song et al. 2021 (2101.09258) theorem 1 and 3, eq. 7, section 3.3, appendix B.
    """

    blocks: int = 4
    beta_min: float = 0.1
    beta_max: float = 20.0
    end: float = 1e-5  # the first time, below which nothing is trained

    def process(self) -> LinearBeta:
        """The VP process."""
        return LinearBeta(self.beta_min, self.beta_max)

    def model(self) -> Preconditioned:
        """The untrained denoiser; the network is told 999 t."""
        return Preconditioned(self.net(), self.process(), predict_eps, clock=lambda t: 999.0 * t)

    def objective(self, denoiser: Denoiser) -> Likelihood:
        """The likelihood-weighted loss in nats, with importance-sampled times."""
        return Likelihood(denoiser, UniformLogSNR(self.end))

    def dequantizer(self) -> Dequantizer:
        """An untrained dequantiser of 8-bit pictures, which begins as uniform noise."""
        return Dequantizer(self.unet(leaving=2))

    def bound(self, denoiser: Denoiser, x0: Tensor, noise: Noise, points: int = 100) -> Bound:
        """The bound on -log p_SDE(x0), offset included, with `points` calls of the denoiser and one more."""
        return continuous_elbo(denoiser, x0, noise, end=self.end, points=points)
