"""Score SDE: score-based generative modeling through SDEs (Song et al. 2021, 2011.13456)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser, Parameterization, Preconditioned, predict_eps, predict_score
from sfumato.likelihood import Density, log_prob_adaptive
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.processes import Gaussian, Geometric, LinearBeta, SubVP
from sfumato.processes.variances import large, small
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import (
    Ancestral,
    Chain,
    EulerMaruyama,
    Overwrite,
    ReverseDiffusion,
    Sampler,
    SNRLangevin,
    Solved,
    sample_ode,
)
from sfumato.training import Denoising, Uniform, eps_weight


@dataclass(frozen=True)
class Recipe(Pictures):
    """A network for the score of a VE, VP or sub-VP process; predictor-corrector sampling; conditioning by overwriting.

    Loss E_t |sigma score(x_t, t) + eps|^2, t uniform on [1e-5, 1]. Sampling goes down `times()`: at each new level a
    predictor makes the step of the reverse SDE, then `moves` Langevin moves correct it, with
    e = 2 (snr |z| / |score|)^2. Under VE end with `sample(..., denoise=True)`; under VP and sub-VP the last step goes
    to t = 0 and returns its mean. That is the order of the paper's algorithm; its public code corrects before it
    predicts, which is the same run on a grid whose first time is there twice, (1.0, *times()).

    `conditioned(m)` overwrites what m saw after every predictor and corrector move: inpainting and colourisation (with
    `Gray`, whose projection is the paper's channel rotation). In the public code the last state of both keeps the noise
    of the unseen part; here it is denoised with the rest. `flow` and `log_prob` are the ODE's samples and likelihood.

    The defaults are CIFAR-10's under VE; `Recipe.vp()` and `Recipe.sub_vp()` are its other two, without a corrector.
    The corrector's norms are per sample, where the paper's are averaged over the batch (ours).

    Args:
        kind: "ve", "vp" or "sub-vp".
        sigma_min, sigma_max: ends of VE; sigma_max near the largest distance between two data (50: data in [0, 1]).
        beta_min, beta_max: ends of VP and sub-VP.
        predictor: "reverse-diffusion", "ancestral" or "euler-maruyama".
        snr: r of the corrector; 0: none. 0.17 for CelebA 64, 0.075 for 256 pixels, 0.15 for 1024.
        moves: corrector moves at each level.
        steps: N, noise levels.

    Source: Song et al. 2021 (2011.13456) eq. 7, 29 to 33, 46; algorithms 2 to 5; appendices C, F, G, I.
    """

    kind: str = "ve"
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    beta_min: float = 0.1
    beta_max: float = 20.0
    predictor: str = "reverse-diffusion"
    snr: float = 0.16
    moves: int = 1
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.kind not in ("ve", "vp", "sub-vp"):
            raise ValueError(f"kind is 've', 'vp' or 'sub-vp', got {self.kind!r}.")
        if self.predictor not in ("reverse-diffusion", "ancestral", "euler-maruyama"):
            raise ValueError(
                f"predictor is 'reverse-diffusion', 'ancestral' or 'euler-maruyama', got {self.predictor!r}."
            )
        if self.kind == "sub-vp" and self.predictor == "ancestral":
            raise ValueError("ancestral sampling is not defined for sub-vp: take 'reverse-diffusion'.")

    @classmethod
    def vp(cls) -> Recipe:
        """DDPM++ of the continuous VP process: Euler-Maruyama alone."""
        return cls(kind="vp", predictor="euler-maruyama", snr=0.0)

    @classmethod
    def sub_vp(cls) -> Recipe:
        """DDPM++ of the sub-VP process: Euler-Maruyama alone."""
        return cls(kind="sub-vp", predictor="euler-maruyama", snr=0.0)

    def process(self) -> Gaussian:
        """The process that `kind` names."""
        if self.kind == "ve":
            return Geometric(self.sigma_min, self.sigma_max)
        return (LinearBeta if self.kind == "vp" else SubVP)(self.beta_min, self.beta_max)

    def model(self) -> Preconditioned:
        """The untrained denoiser: s = F / sigma under VE, eps under VP and sub-VP."""
        return Preconditioned(self.net(), self.process(), self.scheme())

    def scheme(self) -> Parameterization:
        """What the network says: s sigma under VE, eps under VP and sub-VP."""
        return predict_score if self.kind == "ve" else predict_eps

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The score loss with weight sigma^2."""
        return Denoising(denoiser, Uniform(1e-5, 1.0), eps_weight)

    def times(self) -> tuple[float, ...]:
        """N levels: down to sigma_min under VE; down to t = 1e-3 and then 0 under VP and sub-VP."""
        if self.kind == "ve":
            return grids.uniform(self.steps - 1)
        return (*grids.uniform(self.steps - 1, end=1e-3), 0.0)

    def sampler(self) -> Sampler:
        """Predictor, then corrector."""
        return self._chain(self._predictor(), SNRLangevin(self.snr, self.moves) if self.snr else None)

    def conditioned(self, measurement: Measurement) -> Sampler:
        """The sampler with what was seen overwritten after every move of the predictor and of the corrector.

        Each corrector move is a step of its own here, so that it is overwritten too.
        """
        corrector = SNRLangevin(self.snr, 1) if self.snr else None
        moves: Sampler | None = None
        for _ in range(self.moves if corrector else 0):
            assert corrector is not None
            one = Overwrite(corrector, measurement)
            moves = one if moves is None else Chain(moves, one)
        return self._chain(Overwrite(self._predictor(), measurement), moves)

    def flow(self, denoiser: Denoiser, x1: Tensor) -> Solved:
        """The end of the flow from x1, RK45 at 1e-5, with its calls; needs torchdiffeq (extra `ode`)."""
        return sample_ode(denoiser, x1, end=0.0 if self.kind == "ve" else 1e-3)

    def log_prob(self, denoiser: Denoiser, x0: Tensor, noise: Noise) -> Density:
        """log p(x0) in nats by RK45 at 1e-5 with one Rademacher vector, and its calls; needs torchdiffeq."""
        return log_prob_adaptive(denoiser, x0, start=0.0 if self.kind == "ve" else 1e-5, noise=noise)

    def _predictor(self) -> Sampler:
        if self.predictor == "euler-maruyama":
            return EulerMaruyama()
        if self.predictor == "reverse-diffusion":
            return ReverseDiffusion()
        # The paper's ancestral step has btilde under VE and beta under VP.
        return Ancestral(small if self.kind == "ve" else large)

    @staticmethod
    def _chain(predictor: Sampler, corrector: Sampler | None) -> Sampler:
        return predictor if corrector is None else Chain(predictor, corrector)
