"""DiffWave: a versatile diffusion model for audio synthesis (Kong et al. 2021, 2009.09761)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.nets.steps import StepEmbedding
from sfumato.nets.wavenet import Upsampler, WaveNet, strides_of
from sfumato.recipes.sounding import Vocoder, step_of
from sfumato.training import Denoising, Steps, eps_weight

EXAMPLE = """\
sfumato train WAVS --recipe diffwave -o run
sfumato enhance speech.wav --model run --steps 6 -o out   # the sound that its mel frames are made into"""


@dataclass(frozen=True)
class DiffWave(Vocoder):
    """Dilated convolutions that make a sound of its mel frames, by DDPM; six steps on a list of their own.

    x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) eps,  L = E_n mean (eps - eps_hat(x_n, mel, n))^2,

    and ancestral sampling with btilde. A short list eta_1 .. eta_S has its own levels gbar_s = prod (1 - eta_i):
    the network is told the real step n + (a_n - a) / (a_n - a_{n+1}), a = sqrt(gbar_s), and its table of sinusoids
    is interpolated. `times(6)` is the short list, `times()` all N.

    The public code takes the absolute error, and holds x itself to [-1, 1] at each step: here D is held (`clip`, ours).
    The last weight and bias begin at 0 (the code leaves the bias random), so the untrained answer is 0.

    Limits: the last level of training is far from noise (abar = 0.28) and the chain starts at N(0, I) all the same,
    which biases the variance: 0.9447 and, in six steps, 0.5813 for exact data N(0, 1); `unit=False` starts at the
    law of silence. Memory grows with the length: a minute at 22 050 hertz takes about 2 GB. Class labels and the
    unconditional model of SC09 are not here.

    Args:
        width, blocks, cycle: of the network; Base. Large has width 128 and 0.7 at the end of `fast`.

    Source: Kong et al. 2021 (2009.09761) eq. 3 to 7, algorithms 1 and 2, section 3 and appendix B; mel frames and crop
    of the public code (lmnt-com).
    """

    fast: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5)
    variant: str = "diffwave"
    low: float = 20.0
    high: float = 11025.0
    width: int = 64
    blocks: int = 30
    cycle: int = 10

    def net(self) -> nn.Module:
        """The untrained network: it says eps."""
        read = Upsampler(strides_of(self.hop))
        level = StepEmbedding(self.steps, width=512)
        return WaveNet(self.width, self.blocks, self.cycle, level, read=read, beside=self.mels)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        table = self.table()
        return Preconditioned(self.net(), self.process(), predict_eps, clock=lambda t: step_of(table, t))

    def objective(self, denoiser: Denoiser) -> nn.Module:
        """The square error of eps, n uniform."""
        return Denoising(denoiser, Steps(self.steps), eps_weight)


Recipe = DiffWave
