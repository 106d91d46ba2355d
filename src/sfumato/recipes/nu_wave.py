"""NU-Wave: a diffusion probabilistic model for neural audio upsampling (Lee & Han 2021, 2104.02321)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.denoisers import Denoiser, Preconditioned
from sfumato.nets.wavenet import LevelEmbedding, Lifted, WaveNet
from sfumato.noise import Noise
from sfumato.recipes.sounding import Sounding
from sfumato.recipes.sr3_unet import of_signal
from sfumato.training import BetweenLevels
from sfumato.training.noise_error import NoiseError, log_absolute

EXAMPLE = """\
sfumato train WAVS --recipe nu-wave --set factor=2 -o run   # 48 000 hertz
sfumato enhance half_the_rate.wav --model run --steps 8 --samples 8 -o out"""


@dataclass(frozen=True)
class Recipe(Sounding):
    """The upper band of a sound, from its lower one: DiffWave's network told the level and the interpolated sound.

    y: what lies above 1 / r of the band is taken out of x_0 (bins of an STFT), every r-th sample is kept, and straight
    lines lead from one to the next. x = a x_0 + sqrt(1 - a^2) eps with a between two levels of the table,

        L = log mean |eps - eps_hat(x, y, a)|   for each clip, so that loud and quiet clips pull alike,

    and ancestral sampling, D held to [-1, 1], over the eight betas of `fast` or over all levels. `enhance` takes a file
    at hertz / r, or one that is at the full rate already. The mean of several samples (mean.wav) errs less than one.

    Sample r i of y is the i-th that was kept, where the public code's interpolation is half a sample late; and clips
    are not given the random gain of the paper (ours).

    Args:
        factor: r.
        n_fft, stride: of the STFT that cuts the band.

    Source: Lee & Han 2021 (2104.02321) eq. 5 to 9, algorithms 1 and 2, section 3; bins and betas of the public code.
    """

    hertz: int = 48000
    crop: int = 32768
    steps: int = 1000
    first: float = 1e-6
    last: float = 0.006
    fast: tuple[float, ...] = (1e-6, 2e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.9)
    factor: int = 2
    n_fft: int = 1024
    stride: int = 256
    width: int = 64
    blocks: int = 30
    cycle: int = 10

    def __post_init__(self) -> None:
        if self.factor < 2 or self.hop % self.factor:
            raise ValueError(f"factor is at least 2 and divides the hop of {self.hop}, got {self.factor}.")
        if not 0 < 2 * self.stride <= self.n_fft:
            raise ValueError(f"stride is at most half of n_fft = {self.n_fft}, got {self.stride}.")

    def damaged(self, x0: Tensor, noise: Noise) -> Tensor:
        """The lower band, kept at each r-th sample, and straight lines between them."""
        return self.interpolated(self.lower(x0)[..., :: self.factor])

    def lower(self, x: Tensor) -> Tensor:
        """x (B, 1, L) without what lies above 1 / r of its band."""
        window = torch.hann_window(self.n_fft, dtype=x.dtype, device=x.device)
        padded = F.pad(x.squeeze(1), (0, self.n_fft))
        spectrum = torch.stft(padded, self.n_fft, self.stride, window=window, pad_mode="constant", return_complex=True)
        spectrum[:, (self.n_fft // 2 + 1) // self.factor :] = 0.0
        back = torch.istft(spectrum, self.n_fft, self.stride, window=window, length=padded.shape[-1])
        return back[:, : x.shape[-1]].unsqueeze(1)

    def interpolated(self, y: Tensor) -> Tensor:
        """r samples for each of y: sample r i is y_i itself, the last is held."""
        after = torch.cat([y[..., 1:], y[..., -1:]], -1).unsqueeze(-1)
        part = torch.arange(self.factor, dtype=y.dtype, device=y.device) / self.factor
        return (y.unsqueeze(-1) + part * (after - y.unsqueeze(-1))).flatten(-2)

    def told(self, y: Tensor) -> dict[str, Tensor]:
        return {"low": y}

    def received(self, y: Tensor, hertz: int) -> Tensor:
        """The file itself at the model's rate; at 1 / r of it, interpolated."""
        if hertz * self.factor == self.hertz:
            return self.interpolated(y)
        return super().received(y, hertz)

    def net(self) -> nn.Module:
        """The untrained network: it says eps."""
        read = Lifted(self.width, "low")
        return WaveNet(
            self.width, self.blocks, self.cycle, LevelEmbedding(),
            read=read, beside=self.width, taps=3, activation=F.silu, zero=False,
        )  # fmt: skip

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), of_signal)

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """The logarithm of the absolute error of eps."""
        return NoiseError(denoiser, BetweenLevels(self.table()), log_absolute)
