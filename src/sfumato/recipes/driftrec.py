"""DriftRec: adapting diffusion models to blind JPEG restoration (Welker et al. 2022, 2211.06757)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, Residual, predict_eps
from sfumato.noise import Noise
from sfumato.processes import ConstantPull, CosinePull, Gaussian, LinearPull, Reverting, Time, entry
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import EulerMaruyama
from sfumato.training import Denoising, Uniform, eps_weight

EXAMPLE = """\
sfumato train FOLDER --recipe driftrec --damage jpeg:10 --size 64 -o run
sfumato enhance blocky.jpg --model run --samples 4 -o out"""

DRIFTS: dict[str, type] = {"ouve": ConstantPull, "tsdve": LinearPull, "cosve": CosinePull}


@dataclass(frozen=True)
class ToTheMean(EulerMaruyama):
    """Euler and Maruyama's steps, of which one from t <= `last` returns its mean. Source: 2211.06757, public code."""

    last: float = 0.03

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        if t > self.last:
            return super().step(denoiser, xt, t, s, memory, noise)
        process = denoiser.process
        assert isinstance(process, Gaussian) and isinstance(t, float) and isinstance(s, float)
        g, D = process.sde(t)[1] * process.scale, denoiser(xt, t).mean
        drift = process.velocity(xt, D, t) - 0.5 * (self.eta * g) ** 2 * process.score(xt, D, t)
        return xt + drift * (s - t), memory


@dataclass(frozen=True)
class Recipe(Restorer):
    """A drift from the clean picture to its damaged one y under noise that grows; the way back begins at y.

    dx = pull(t) (y - x) dt + c sigma_min r^t dw,   x_t ~ N(a x_0 + (1 - a) y, sigma^2),   r = sigma_max / sigma_min

        ouve   pull = gamma                       a = e^(-gamma t)                        c^2 = 2 (gamma + log r)
        tsdve  pull = gamma t                     a = e^(-gamma t^2 / 2)                  c: sigma(1) = sigma_max
        cosve  pull = gamma (1 - cos(pi t))       a = e^(-gamma (t - sin(pi t) / pi))     c: sigma(1) = sigma_max

    L = |sigma score + eps|^2, t uniform. Drawing begins at y + sigma(1) eps and takes Euler and Maruyama's steps at
    times even between 1 and `last`; the mean of the last step, 1 / N long, is returned. Steps are as long as their
    times are apart (ours; the public code's are 1 / N, up to 3 % longer). The network reads x_t - y, scaled to unit
    variance, beside y, and is told log SNR (ours: x_t, y and t). The paper's colour correction is not here.

    Limits: with gamma = 1 the mean is e^-1 short of y at t = 1 though the draw begins at y: the mean of draws falls
    short of x_0 - y by the share e^(-gamma) (v / (e^(-2 gamma) v + sigma(1)^2))^(1/2), v the variance that y leaves
    open: 3.7 % at v = 0.01.

    Args:
        drift: "ouve", "tsdve" or "cosve", the best on faces.
        gamma: stiffness.
        sigma_min, sigma_max: of the noise, for pictures in [0, 1] (twice as much in model space).
        last: time of the last call.

    Source: Welker et al. 2022 (2211.06757) section III; the three drifts, their constants and the sampler of the public
    code.
    """

    drift: str = "ouve"
    gamma: float = 1.0
    sigma_min: float = 0.01
    sigma_max: float = 1.0
    last: float = 0.03

    def __post_init__(self) -> None:
        if self.drift not in DRIFTS:
            raise ValueError(f"drift is 'ouve', 'tsdve' or 'cosve', got {self.drift!r}.")

    def process(self) -> Reverting:
        """The drift to the entry "image" of the condition."""
        inner = DRIFTS[self.drift](self.gamma, self.sigma_min, self.sigma_max)
        return Reverting(inner, scale=2.0, read=entry("image"))

    def model(self) -> Residual:
        """The untrained denoiser."""
        process = self.process()
        return Residual(Preconditioned(self.net(), process.inner, predict_eps), process)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The square error of eps, from t = 0.01 on."""
        return Denoising(denoiser, Uniform(0.01), eps_weight)

    def sampler(self) -> ToTheMean:
        """Steps of the reverse SDE."""
        return ToTheMean(last=self.last)

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """`steps` times even between 1 and `last`, and the end of the last step; one step goes to 0."""
        count = steps or self.calls
        if count == 1:
            return (1.0, 0.0)
        return (*grids.uniform(count - 1, end=self.last), max(self.last - 1.0 / count, 0.0))
