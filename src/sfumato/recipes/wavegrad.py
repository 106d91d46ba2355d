"""WaveGrad: estimating gradients for waveform generation (Chen et al. 2021, 2009.00713)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned
from sfumato.nets.film_unet import FilmUNet
from sfumato.noise import Noise
from sfumato.recipes.sounding import Vocoder
from sfumato.recipes.sr3_unet import of_signal
from sfumato.samplers import sample
from sfumato.training import BetweenLevels
from sfumato.training.noise_error import NoiseError, absolute

EXAMPLE = """\
sfumato train WAVS --recipe wavegrad --set hop=300 -o run   # mel frames of 24 000 hertz
sfumato enhance speech.wav --model run --steps 50 -o out"""

Betas = tuple[float, ...]


@dataclass(frozen=True)
class Recipe(Vocoder):
    """A vocoder that is told the level itself, so that one model draws in any number of steps on any list of betas.

    l_0 = 1, l_s = prod_{i <= s} sqrt(1 - beta_i);  s ~ U{1 .. S},  a ~ U(l_s, l_{s-1}),

        x = a x_0 + sqrt(1 - a^2) eps,   L = mean |eps - eps_hat(x, mel, a)|,

    and ancestral sampling with btilde, D held to [-1, 1] as in the code. `times()` has all S levels, `times(50)` the
    list linear(1e-4, 0.05), `times(25)` the Fibonacci list 1e-6 (1, 2, 3, 5, ..), another number the short list `fast`
    if it has that length, else levels of the table. `search` finds a short list.

    The Fibonacci list ends at a^2 = 0.72, far from the N(0, I) that the chain starts at: it leans on the level that the
    network is told and on the clamp. Frames are centred and log-scaled as `LogMel("wavegrad")`, of which the paper says
    nothing (ours).

    Args:
        factors: of the ways up; their product is `hop`.
        before, ways, enter, downs: channels of the network; Base. Large has repeats = 2.

    Source: Chen et al. 2021 (2009.00713) eq. 4 to 11, algorithms 1 and 2, section 3, appendix A and B; the 50 and 25
    steps of section 4.4.
    """

    hertz: int = 24000
    hop: int = 300
    crop: int = 7200
    steps: int = 1000
    first: float = 1e-6
    last: float = 0.01
    variant: str = "wavegrad"
    window: int = 1200
    n_fft: int = 2048
    mels: int = 128
    low: float = 20.0
    high: float = 12000.0
    factors: tuple[int, ...] = (5, 5, 3, 2, 2)
    before: int = 768
    ways: tuple[int, ...] = (512, 512, 256, 128, 128)
    enter: int = 32
    downs: tuple[int, ...] = (128, 128, 256, 512)
    repeats: int = 1

    def __post_init__(self) -> None:
        if math.prod(self.factors) != self.hop:
            raise ValueError(f"the product of the factors {tuple(self.factors)} is the hop, got {self.hop}.")

    def net(self) -> nn.Module:
        """The untrained network: it says eps."""
        return FilmUNet(self.mels, self.before, self.factors, self.ways, self.enter, self.downs, self.repeats)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), of_signal)

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """The absolute error of eps, at levels between those of the table."""
        return NoiseError(denoiser, BetweenLevels(self.table()), absolute)

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        if self.fast and steps == len(self.fast):
            return grids.free(self.table(), self.fast)
        if steps == 50:
            return grids.free(self.table(), [1e-4 + (0.05 - 1e-4) * i / 49 for i in range(50)])
        if steps == 25:
            return grids.free(self.table(), fibonacci(25))
        return grids.table(self.table(), steps or self.steps)

    def search(self, score: Callable[[Betas], float], decades: tuple[int, ...] = (-6, -5, -4, -3, -2, -1)) -> Betas:
        """The list of rising betas c_k 10^k, c_k = 1 .. 9, one for each decade, of the lowest score that is found.

        One mantissa after the other, from 1, until none helps (ours: the paper tries all 9^6).

        Args:
            score: of a list, the smaller the better: `mel_error`, say.
        """
        mantissas, best = [1] * len(decades), math.inf
        moved = True
        while moved:
            moved = False
            for place in range(len(decades)):
                for c in range(1, 10):
                    tried = [*mantissas[:place], c, *mantissas[place + 1 :]]
                    if (found := score(_betas(tried, decades))) < best:
                        mantissas, best, moved = tried, found, True
        return _betas(mantissas, decades)

    def mel_error(self, denoiser: Denoiser, x0: Tensor, seed: int = 0) -> Callable[[Betas], float]:
        """The score of a list: mean |log mel - log mel^| of what it makes of the frames of x0 (B, 1, L)."""
        mel = self.told(x0)["mel"]
        bound = self.guide(denoiser).given({"mel": mel})

        def score(betas: Betas) -> float:
            noise = Noise(seed)
            x1 = noise.normal(x0)
            x = sample(bound, self.sampler(), x1=x1, times=grids.free(self.table(), betas), noise=noise)
            return float((self.told(x)["mel"] - mel).abs().mean())

        return score


def fibonacci(count: int) -> Betas:
    """1e-6 times 1, 2, 3, 5, 8 .. Source: Chen et al. 2021 (2009.00713) section 4.4."""
    numbers = [1, 2]
    while len(numbers) < count:
        numbers.append(numbers[-1] + numbers[-2])
    return tuple(1e-6 * n for n in numbers[:count])


def _betas(mantissas: list[int], decades: tuple[int, ...]) -> Betas:
    return tuple(float(f"{c}e{k}") for c, k in zip(mantissas, decades, strict=True))
