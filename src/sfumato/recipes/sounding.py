"""What recipes trained on sounds and what is heard of them share: the table, its clock, and how one draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato import grids
from sfumato.data.mel import LogMel
from sfumato.denoisers import Clipped, Denoiser
from sfumato.laws import Normal
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, Time, exact
from sfumato.samplers import Ancestral, Sampler


@dataclass(frozen=True)
class QuietStart(Table):
    """A table whose chain starts at N(0, sigma(1)^2), the law of silence, and not at N(0, I) as the audio papers do.

    A list that ends far from noise (alpha^2 = 0.28 for DiffWave's) biases the variance when it starts at N(0, I): exact
    data N(0, s^2) come out with 0.9447 for s^2 = 1 and 0.0329 for 0.04.
    """

    def prior(self, like: Tensor) -> Normal:
        """N(0, sigma(1)^2)."""
        return Normal(torch.zeros_like(like), self.sigma(1.0))


@dataclass(frozen=True)
class Sounding:
    """Items are (x0, told(y)): a window of a sound, and what the network is told of y, the sound that is given.

    A recipe of this kind is trained by `sfumato train WAVS --recipe KEY`, and `sfumato enhance SOUND --model RUN` and
    `Model.enhance` draw from it. It has

        process(), model(), objective(denoiser)      as every trained recipe
        damaged(x0, noise), told(y)                  what is given in training, and the condition that it is
        received(y, hertz)                           a file as the model hears it
        sampler(), times(steps), guide(denoiser)     the published way to draw

    Sounds have one channel; model space has its loudest training sample at 0.95. In training y is the window alone, so
    that frames at its ends see a reflection (ours; the published code takes frames of the whole file).

    Args:
        hertz: sample rate; decided by the data in `sfumato train`.
        crop: samples of a training window, a multiple of `hop`.
        steps, first, last: N and the ends of the linear betas.
        fast: betas of the short list, drawn with for as many steps as it has.
        unit: start at N(0, I) as published; False: at the law of silence.
        clip: hold D to [-1, 1] in drawing (ours where the paper holds nothing).
    """

    paired: ClassVar[bool] = True
    heard: ClassVar[bool] = True
    spatial: ClassVar[bool] = True

    hertz: int = 22050
    hop: int = 256
    crop: int = 15872
    steps: int = 50
    first: float = 1e-4
    last: float = 0.05
    fast: tuple[float, ...] = ()
    unit: bool = True
    clip: bool = True

    def table(self) -> Table:
        """The N levels of training."""
        return (Table if self.unit else QuietStart).linear(self.steps, self.first, self.last)

    def process(self) -> Gaussian:
        """The forward process."""
        return self.table()

    def damaged(self, x0: Tensor, noise: Noise) -> Tensor:
        """The sound that is given in training: the clean one."""
        return x0

    def told(self, y: Tensor) -> dict[str, Tensor]:
        """The condition that a sound (B, 1, L) is, L a multiple of `hop`, model space."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its network is told of a sound.")

    def received(self, y: Tensor, hertz: int) -> Tensor:
        """A sound (B, 1, L) of a file as the model takes it, at its sample rate.

        Raises:
            ValueError: for another rate than the model's.
        """
        if hertz != self.hertz:
            raise ValueError(f"the model is for {self.hertz} samples a second, the sound has {hertz}: resample it.")
        return y

    def padded(self, y: Tensor) -> Tensor:
        """y with zeros at its end, up to a multiple of `hop`."""
        return F.pad(y, (0, -y.shape[-1] % self.hop))

    def fitted(self, windows: Tensor) -> Self:
        """The recipe with the fields that training data (N, 1, L) decide, model space: itself, where none are."""
        return self

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """What the network is told when it draws: `told` of the sound that is given, {"image": y}."""
        return self.told(cond["image"])

    def sampler_given(self, cond: dict[str, Tensor]) -> Sampler:
        """The published way to draw."""
        return self.sampler()

    def picture(self, denoiser: Denoiser, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The sound in a state: the state."""
        return x

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1], unless `clip` is off."""
        return Clipped(denoiser) if self.clip else denoiser

    def sampler(self) -> Sampler:
        """Ancestral sampling with the small variance."""
        return Ancestral()

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """All N levels, the short list where `steps` is its length, or levels of the table evenly spaced."""
        if self.fast and steps == len(self.fast):
            return grids.free(self.table(), self.fast)
        return grids.table(self.table(), steps or self.steps)


@dataclass(frozen=True)
class Vocoder(Sounding):
    """Told the log-mel frames: {"mel": (B, mels, L / hop)}.

    Args:
        variant, window, n_fft, mels, low, high: of the frames, as `LogMel` has them.
    """

    variant: str = "hifi-gan"
    window: int = 1024
    n_fft: int = 1024
    mels: int = 80
    low: float = 0.0
    high: float = 8000.0

    def frames(self) -> LogMel:
        """The front end."""
        return LogMel(self.variant, self.hertz, self.hop, self.window, self.n_fft, self.mels, self.low, self.high)

    def told(self, y: Tensor) -> dict[str, Tensor]:
        return {"mel": self.frames()(y)}


def step_of(table: Table, t: Time) -> Any:
    """The step that the network is told, 0 .. N - 1, linear in alpha between two levels; exact at those of the table.

    n + (alpha_n - alpha) / (alpha_n - alpha_{n+1}), alpha = alpha(t). Source: Kong et al. 2021 (2009.09761) appendix B.

    Raises:
        ValueError: for a level outside the table: there is no step for it.
    """
    alpha = torch.as_tensor(table.alpha(exact(t)), dtype=torch.float64)
    levels = torch.tensor(table.alpha_bars, dtype=torch.float64, device=alpha.device).sqrt()
    if bool((alpha > levels[0] + 1e-9).any()) or bool((alpha < levels[-1] - 1e-9).any()):
        raise ValueError(
            f"the network knows alpha from {float(levels[0]):.6g} down to {float(levels[-1]):.6g}, and is asked for "
            f"{float(alpha.max()):.6g} to {float(alpha.min()):.6g}: take levels of training or between."
        )
    n = (torch.searchsorted(-levels, -alpha, right=True) - 1).clamp(0, len(levels) - 2)
    step = (n + (levels[n] - alpha) / (levels[n] - levels[n + 1])).clamp(0.0, len(levels) - 1.0)
    return step if isinstance(t, Tensor) else float(step)
