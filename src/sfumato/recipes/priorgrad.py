"""PriorGrad: conditional denoising diffusion models with a data-dependent prior (Lee et al. 2022, 2106.06406)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, Scheme, predict_eps
from sfumato.processes import Anchored, Coefficient, Time
from sfumato.recipes.diffwave import DiffWave
from sfumato.recipes.sounding import step_of
from sfumato.training import Steps
from sfumato.training.noise_error import NoiseError, squared

EXAMPLE = """\
sfumato train WAVS --recipe priorgrad -o run
sfumato enhance speech.wav --model run --steps 6 -o out"""


class ScaledNoise(Preconditioned):
    """A network that says e = S eps, the noise with its scale, and sees u as it is: D = (u - sigma F) / alpha."""

    def _elementwise(self, c: Scheme, alpha: Coefficient, sigma: Tensor) -> Scheme:
        return c


@dataclass(frozen=True)
class Recipe(DiffWave):
    """DiffWave whose noise is as loud as the frame: e ~ N(0, S^2), S from the mel frames.

    x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) e,  L = E_n mean ((e - e_hat(x_n, mel, n)) / S)^2,

    and every noise of the sampler, the start too, is S times a normal one. Of a frame

        E = min(sqrt(sum exp(mel)), most),   S = max(0.1, (E - least) / (most - least)),

    repeated over its hop; `least` is the smallest E of the training data, which `sfumato train` measures and writes
    into the config. It is the process `Anchored` at 0 with that scale, so any sampler works on it. The network says
    e, not e / S: the division is in the loss alone.

    Limits: the acoustic model of the paper (phonemes to mel) is not here. As DiffWave's for the rest.

    Args:
        least, most: energies that S is 0 and 1 at.
        floor: of S.

    Source: Lee et al. 2022 (2106.06406) eq. 3 to 6, algorithms 1 and 2, section 4.1; clip at 4 and short list of the
    public code (NeuralSpeech).
    """

    variant: str = "hifi-gan"
    low: float = 0.0
    high: float = 8000.0
    least: float = 0.0
    most: float = 4.0
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.least < self.most or not 0.0 < self.floor <= 1.0:
            raise ValueError(
                f"0 <= least < most and 0 < floor <= 1, got {self.least}, {self.most} and {self.floor}: data all "
                "louder than `most` need a larger one."
            )

    def energy(self, mel: Tensor) -> Tensor:
        """E of each frame, (B, 1, F)."""
        return mel.exp().sum(1, keepdim=True).sqrt().clamp(max=self.most)

    def spread(self, cond: Any) -> Tensor:
        """S at each sample, (B, 1, L)."""
        part = (self.energy(cond["mel"]) - self.least) / (self.most - self.least)
        return part.clamp(min=self.floor).repeat_interleave(self.hop, -1)

    def fitted(self, windows: Tensor) -> Self:
        """The recipe with `least` of these windows, where it was left at 0."""
        if self.least:
            return self
        least = min(float(self.energy(self.told(part)["mel"]).min()) for part in windows.split(64))
        return replace(self, least=least)

    def process(self) -> Anchored:
        """The table, its noise scaled by the condition."""
        return Anchored(self.table(), read=lambda cond: cond["mel"].new_zeros(1), spread=self.spread)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        table = self.table()

        def clock(t: Time) -> Time:
            step: Time = step_of(table, t)
            return step

        return ScaledNoise(self.net(), self.process(), predict_eps, clock=clock)

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """The square error of e / S, n uniform."""
        return NoiseError(denoiser, Steps(self.steps), squared)
