"""CDiffuSE: conditional diffusion probabilistic model for speech enhancement (Lu et al. 2022, 2202.05256)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Estimate, Preconditioned, predict_eps
from sfumato.laws import Normal
from sfumato.nets.steps import StepEmbedding
from sfumato.nets.wavenet import Upsampler, WaveNet, strides_of
from sfumato.noise import Noise
from sfumato.processes import Anchored, Coefficient, Gaussian, Table, Time, entry, exact, expand, lib
from sfumato.recipes.sounding import Sounding, step_of
from sfumato.samplers import Sampler
from sfumato.training import Steps
from sfumato.training.noise_error import NoiseError, absolute

EXAMPLE = """\
sfumato train WAVS --recipe cdiffuse -o run   # clean speech, 16 000 hertz; noise is added
sfumato enhance noisy.wav --model run --steps 6 -o out"""


@dataclass(frozen=True)
class Drifting(Anchored):
    """alpha [(1 - m) x_0 + m y] + sqrt((1 - alpha^2)(1 - alpha)) eps, alpha of `inner`,

        m^2 = min((1 - alpha^2) / alpha, 1).

    The variance is that of the paper, 1 - (1 + m^2) alpha^2. A level with m held at 1 knows no x_0.

    Source: Lu et al. 2022 (2202.05256) eq. 9 to 11 and section 3.3.
    """

    def share(self, t: Time) -> Coefficient:
        """m."""
        alpha = self.inner.alpha(t)
        squared = self.inner.sigma(t) ** 2 / alpha
        return squared.clamp(max=1.0).sqrt() if isinstance(squared, Tensor) else math.sqrt(min(squared, 1.0))

    def alpha(self, t: Time) -> Coefficient:
        return (1.0 - self.share(t)) * self.inner.alpha(t)

    def shift(self, t: Time, like: Tensor) -> Tensor:
        t = exact(t)
        return expand(self.share(t) * self.inner.alpha(t), like) * self._anchor(like)

    def log_snr(self, t: Time) -> Coefficient:
        """2 log(alpha / sigma) of this process."""
        return Gaussian.log_snr(self, t)

    def time_of(self, log_snr: Time) -> Coefficient:
        return Gaussian.time_of(self, log_snr)

    rates = Gaussian.rates

    def shift_rate(self, t: Time, like: Tensor) -> Tensor:
        raise NotImplementedError("CDiffuSE's steps need no rates: take its own sampler.")

    def prior(self, like: Tensor) -> Normal:
        """alpha y + sqrt(1 - 2 alpha^2) eps at t = 1: m is 1 there."""
        return self.start(1.0, like)

    def start(self, t: float, like: Tensor) -> Normal:
        """The same at the first time of a grid."""
        alpha = self.inner.alpha(t)
        return Normal(torch.zeros_like(like) + alpha * self._anchor(like), math.sqrt(max(1.0 - 2.0 * alpha**2, 0.0)))

    def _level(self, t: Time) -> Coefficient:
        alpha = self.inner.alpha(t)
        # 1 - alpha as sigma^2 / (1 + alpha), or nothing is left of it near t = 0.
        return self.inner.sigma(t) ** 2 / lib(alpha).sqrt(1.0 + alpha)


class Combined(Preconditioned):
    """A network that says e = (x_t - alpha x_0) / sqrt(1 - alpha^2), drift and noise in one, alpha of the table."""

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process, t = self.process, exact(t)
        assert isinstance(process, Drifting) and self.clock is not None
        c = self.scheme(process.inner.alpha(t), process.inner.sigma(t))
        return self._estimate(xt, c, self._run(xt, self.clock(t), cond))


@dataclass(frozen=True)
class Towards(Sampler):
    """Steps of the process's reverse law; the first has m = 1 behind it, the last keeps a share of y.

    With m_N = 1 the law of the first step is the marginal of x_{N-1} under D: x_N enters through D alone.

    Args:
        keep: share of y in the end.
        still: start at y itself, as the public code does; else where the grid begins, alpha y + noise.
    """

    keep: float = 0.2
    still: bool = False

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Drifting) and isinstance(t, float)
        if memory is None:
            law = process.start(t, xt)
            xt = torch.zeros_like(xt) + process._anchor(xt) if self.still else law.sample(noise)
            xs = process.marginal(denoiser(xt, t).mean, s).sample(noise)
        else:
            xs = process.reverse(Estimate(denoiser(xt, t).mean), xt, t, s).sample(noise)
        if s == 0.0:
            xs = (1.0 - self.keep) * xs + self.keep * process._anchor(xt)
        return xs, True


@dataclass(frozen=True)
class Recipe(Sounding):
    """Clean speech from noisy: a chain whose mean drifts from one to the other, a network told the noisy spectrum.

    x_n = a [(1 - m) x_0 + m y] + sqrt(d) eps,   a^2 = abar_n,  m^2 = (1 - a^2) / a,  d = (1 - a^2)(1 - a),
    L = mean |e - e_hat(x_n, y, n)|,
    e = (m a (y - x_0) + sqrt(d) eps) / sqrt(1 - a^2) = (x_n - a x_0) / sqrt(1 - a^2),

    then the exact reverse law under D = (x_n - sqrt(1 - a^2) e_hat) / a, with m = 1 at the first step, and at the end
    0.8 x + 0.2 y. The condition is log(1 + |STFT|) of y, and y itself, the anchor. `--steps 6` is the short list.

    Noise in training is Gaussian with a spectrum f^(-k/2), k uniform on [0, 2], at 0 to 15 dB (ours: the paper trains
    on pairs of clean and noisy recordings). The public code starts at y (`still`) and holds x to [-1, 1] at each step;
    here D is held (`clip`, ours). Lists must keep m <= 1: with 200 steps the last beta is 0.0095.

    Args:
        still: start at y itself.
        low_db, high_db: signal-to-noise ratios in training.
        n_fft: of the spectrum, n_fft / 2 + 1 bins.

    Source: Lu et al. 2022 (2202.05256) eq. 9 to 19, algorithms 1 and 2; 0.2 and spectrum of the public code.
    """

    hertz: int = 16000
    last: float = 0.035
    fast: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.35)
    n_fft: int = 1024
    width: int = 64
    blocks: int = 30
    cycle: int = 10
    still: bool = False
    low_db: float = 0.0
    high_db: float = 15.0

    def __post_init__(self) -> None:
        bar = self.table().alpha_bars[-1]
        if (1.0 - bar) / math.sqrt(bar) > 1.001:
            raise ValueError(
                f"these betas end at m = {math.sqrt((1.0 - bar) / math.sqrt(bar)):.3g}, more noisy speech than all of "
                "it: make `last` or `steps` smaller (0.035 for 50, 0.0095 for 200)."
            )

    def table(self) -> Table:
        """The N levels of training."""
        return Table.linear(self.steps, self.first, self.last)

    def process(self) -> Drifting:
        """The drifting process; its anchor is the noisy speech."""
        return Drifting(self.table(), read=entry("noisy"))

    def damaged(self, x0: Tensor, noise: Noise) -> Tensor:
        """x_0 with noise of a random colour and level."""
        n = noise.normal(x0)
        u = noise.uniform(x0[:, :, :2])
        colour, db = 2.0 * u[..., :1], self.low_db + (self.high_db - self.low_db) * u[..., 1:]
        spectrum = torch.fft.rfft(n)
        f = torch.arange(spectrum.shape[-1], dtype=x0.dtype, device=x0.device).clamp(min=1.0)
        n = torch.fft.irfft(spectrum * f ** (-0.5 * colour), n=x0.shape[-1])
        size = x0.square().mean(-1, keepdim=True).sqrt() * 10.0 ** (-db / 20.0)
        return x0 + n * size / n.square().mean(-1, keepdim=True).sqrt()

    def told(self, y: Tensor) -> dict[str, Tensor]:
        window = torch.hann_window(self.n_fft, dtype=y.dtype, device=y.device)
        found = torch.stft(y.squeeze(1), self.n_fft, self.hop, window=window, pad_mode="reflect", return_complex=True)
        return {"spectrum": found.abs()[..., :-1].log1p(), "noisy": y}

    def net(self) -> nn.Module:
        """The untrained network."""
        read, level = Upsampler(strides_of(self.hop), "spectrum"), StepEmbedding(self.steps, width=512)
        return WaveNet(self.width, self.blocks, self.cycle, level, read=read, beside=self.n_fft // 2 + 1)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        table = self.table()
        return Combined(self.net(), self.process(), predict_eps, clock=lambda t: step_of(table, t))

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """The absolute error of e, n uniform."""
        return NoiseError(denoiser, Steps(self.steps), absolute, of=self.table())

    def sampler(self) -> Towards:
        """The reverse law, from noisy to clean."""
        return Towards(still=self.still)
