"""Non-Gaussian denoising diffusion models: gamma and mixture noise (Nachmani et al. 2021, 2106.07582, 2110.05948)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.noise import Noise
from sfumato.processes import GammaNoise, Gaussian, MixtureNoise, Table, TwoGammaNoise, expand
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import DDIM
from sfumato.training import Steps


@dataclass(frozen=True)
class Recipe(Pictures):
    """DDPM with other noise of the same mean and variance at every level: gamma, two normals, or two gammas.

    x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) e_n, E e_n = 0, E e_n^2 = 1. Gamma noise is the sum of a chain's, of scale
    theta_n = sqrt(abar_n) theta_0 and concentration kb_n = (1 - abar_n) / (abar_n theta_0^2): its skewness is 0.2 at
    n = 1 and 1e-5 at n = N with the defaults, so it is nearly normal but at the first steps; a larger theta_0 shows
    more of it. The mixtures are drawn anew at each level and come from no chain.

    L = mean |e_n - e_hat(x_n, n)|. Sampling starts from e_N, with DDIM's step and the noise of the level it goes to:
    x_{n-1} = sqrt(abar_{n-1}) D + sqrt(1 - abar_{n-1} - s_n^2) e_hat + s_n e_{n-1}, s_n as DDIM's with `eta` (1: the
    paper's DDPM form). The bound on the likelihood is not here: the chain's own reverse kernels are betas with supports
    of their own, at infinite KL from each other. The network is the library's U-Net (ours).

    Args:
        steps, first, last: N and the ends of the linear betas.
        noise: "gamma", "normals" (two of them) or "gammas" (two of them); "normal" is DDPM, to compare with.
        theta_0: scale of gamma noise at the start.
        eta: 0 deterministic, 1 ancestral.

    Source: Nachmani et al. 2021 (2106.07582) sections 3.2 and 3.3; Nachmani et al. 2021 (2110.05948) eq. 8 to 16.
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02
    noise: str = "gamma"
    theta_0: float = 0.001
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.noise not in ("gamma", "normals", "gammas", "normal"):
            raise ValueError(f"noise is 'gamma', 'normals', 'gammas' or 'normal', got {self.noise!r}.")

    def table(self) -> Table:
        """The N levels."""
        return Table.linear(self.steps, self.first, self.last)

    def process(self) -> Gaussian:
        """The table with this noise."""
        made: dict[str, Gaussian] = {
            "gamma": GammaNoise(self.table(), self.theta_0),
            "normals": MixtureNoise(self.table()),
            "gammas": TwoGammaNoise(self.table()),
            "normal": self.table(),
        }
        return made[self.noise]

    def model(self) -> Preconditioned:
        """The untrained denoiser, which predicts e; the network is told n - 1."""
        return Preconditioned(self.net(), self.process(), predict_eps, clock=lambda t: t * self.steps - 1.0)

    def objective(self, denoiser: Denoiser) -> AbsoluteNoise:
        """The absolute error of e, a mean over the event."""
        return AbsoluteNoise(denoiser, self.steps)

    def sampler(self) -> DDIM:
        """DDIM's step with the noise of the process."""
        return DDIM(self.eta)

    def times(self, steps: int = 100) -> tuple[float, ...]:
        """`steps` of the N levels and 0; 100 in the paper's middle row."""
        return grids.table(self.table(), steps)


class AbsoluteNoise(nn.Module):
    """mean |e - e_hat| at a uniform step n of N, whatever the law of e. Source: 2110.05948 algorithm 1."""

    def __init__(self, denoiser: Denoiser, steps: int) -> None:
        super().__init__()
        self.denoiser, self.times = denoiser, Steps(steps)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        t = self.times(process, len(x0), noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        ratio = expand(process.alpha(t), x0) / expand(process.sigma(t), x0)
        return (ratio * (x0 - self.denoiser(xt, t, cond).mean)).abs().flatten(1).mean(1)
