"""Log-mel spectrograms: what vocoders are told. The published ones differ, and are not interchangeable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

Scale = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LogMel:
    """Frames of a signal (B, 1, L) in [-1, 1], (B, mels, L / hop): log of a mel filter bank on STFT magnitudes.

    A named variant is one of

        "hifi-gan"   reflected (n_fft - hop) / 2 at each end, Slaney's mel with area norm, ln max(m, 1e-5)
        "wavegrad"   the same with frames centred on the hops, as the paper says nothing of it (ours)
        "diffwave"   centred frames, divided by the window's norm, HTK's mel without norm,
                     clamp((20 log10 max(m, 1e-5) - 20 + 100) / 100, 0, 1)

    Centred frames are L / hop + 1; the last is left out. `high` is held to half of the sample rate.

    Args:
        hertz: sample rate.
        hop, window, n_fft: samples; the window is Hann's, in the middle of n_fft.
        low, high: ends of the filter bank, hertz.

    Raises:
        ValueError: for another name, sizes that do not fit each other, or a signal of another length than whole hops.

    Source: public code of HiFi-GAN and of DiffWave (lmnt-com); Chen et al. 2021 (2009.00713) section 4.2.
    """

    variant: str = "hifi-gan"
    hertz: int = 22050
    hop: int = 256
    window: int = 1024
    n_fft: int = 1024
    mels: int = 80
    low: float = 0.0
    high: float = 8000.0

    def __post_init__(self) -> None:
        if self.variant not in ("hifi-gan", "wavegrad", "diffwave"):
            raise ValueError(f"variant is 'hifi-gan', 'wavegrad' or 'diffwave', got {self.variant!r}.")
        if not 0 < self.hop <= self.window <= self.n_fft or not 0.0 <= self.low < min(self.high, self.hertz / 2):
            raise ValueError(
                f"hop <= window <= n_fft and low < high are needed, got {self.hop}, {self.window}, {self.n_fft} "
                f"samples and {self.low} to {min(self.high, self.hertz / 2)} hertz."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """The frames of x."""
        if x.shape[-1] % self.hop or x.shape[-1] <= self.n_fft // 2:
            raise ValueError(
                f"a signal is a multiple of the hop of {self.hop} samples, longer than {self.n_fft // 2}, "
                f"got {x.shape[-1]}."
            )
        spectrum = self.magnitude(x.squeeze(1))
        mel = self._bank.to(x) @ spectrum
        if self.variant != "diffwave":
            return mel.clamp(min=1e-5).log()
        norm = torch.hann_window(self.window, dtype=x.dtype, device=x.device).square().sum().sqrt()
        return ((20.0 * (mel / norm).clamp(min=1e-5).log10() + 80.0) / 100.0).clamp(0.0, 1.0)

    def magnitude(self, x: Tensor) -> Tensor:
        """|STFT| of (B, L), (B, n_fft / 2 + 1, L / hop)."""
        centred = self.variant != "hifi-gan"
        if not centred:
            total = self.n_fft - self.hop
            x = F.pad(x.unsqueeze(1), (total // 2, total - total // 2), mode="reflect").squeeze(1)
        window = torch.hann_window(self.window, dtype=x.dtype, device=x.device)
        found = torch.stft(
            x, self.n_fft, self.hop, self.window, window, center=centred, pad_mode="reflect", return_complex=True
        )
        return found.abs()[..., :-1] if centred else found.abs()

    @cached_property
    def _bank(self) -> Tensor:
        slaney = self.variant != "diffwave"
        return bank(self.hertz, self.n_fft, self.mels, self.low, min(self.high, self.hertz / 2), slaney=slaney)


def bank(hertz: int, n_fft: int, mels: int, low: float, high: float, *, slaney: bool = True) -> Tensor:
    """Triangles evenly spaced in mel, (mels, n_fft / 2 + 1), float64: Slaney's mel and area norm, or HTK's and none."""
    to, back = (_slaney, _slaney_hertz) if slaney else (_htk, _htk_hertz)
    edges = torch.linspace(to(low), to(high), mels + 2, dtype=torch.float64)
    corners = torch.tensor([back(float(m)) for m in edges], dtype=torch.float64)
    bins = torch.linspace(0.0, hertz / 2, n_fft // 2 + 1, dtype=torch.float64)
    left, middle, right = (corners[i : i + mels, None] for i in range(3))
    weights = torch.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)).clamp(min=0.0)
    return weights * (2.0 / (right - left)) if slaney else weights


# Linear below 1 kHz, 15 mel there; then 27 mel for a factor of 6.4.


def _slaney(hertz: float) -> float:
    return hertz * 3.0 / 200.0 if hertz < 1000.0 else 15.0 + 27.0 * math.log(hertz / 1000.0) / math.log(6.4)


def _slaney_hertz(mel: float) -> float:
    return mel * 200.0 / 3.0 if mel < 15.0 else 1000.0 * math.exp((mel - 15.0) / 27.0 * math.log(6.4))


def _htk(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def _htk_hertz(mel: float) -> float:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
