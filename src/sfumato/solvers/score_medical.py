"""ScoreMed: solving inverse problems in medical imaging with score-based generative models (Song et al. 2022,
2111.08005)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import ReverseDiffusion, SNRLangevin, Times
from sfumato.solvers.base import Solver, share
from sfumato.solvers.replacement import ancestral, replaced

EXAMPLE = "sfumato restore scan.nii.gz --operator mri --simulate --sigma 0 --solver score-medical --steps 50 -o out"


@dataclass(frozen=True)
class ScoreMedical(Solver):
    """Predictor-corrector sampling, and before each move what was measured is mixed into the state:

        x  <-  x + trust A^+ (alpha_t y + sigma_t A z - A x),

    the paper's T^{-1} [trust Lam (y_t) + (1 - trust) Lam T x + (I - Lam) T x] for A = Lam T. At each level this is done
    before the Langevin corrector and again before the reverse-diffusion predictor; at the end of a process with
    sigma(0) > 0 the state is denoised (Tweedie), and then A x = y, with whatever noise y has: for noisy y the spread
    along A is 0 and its error that of y. z is noise of the image, seen through A: not white on a sinogram.

    The paper measures tomography in k-space too, along spokes of a grid four times as fine, and drops the imaginary
    part of T^{-1}. Here A^+ is that of the operator (ours): for real images through `Fourier` a frequency whose
    opposite was not sampled then counts fully instead of by half; `Radon`'s is found by conjugate gradients, which is
    slow, and `Fourier(kspace.radial(...))` is the fast view of the same spokes.

    `trust` and `snr` were tuned for each data set, at a thousand levels. The defaults are those of tomography (LIDC,
    320 pixels, 23 views); `ScoreMedical.mri()` has those of BraTS. Norms of the corrector are per sample, where the
    public code takes means over the batch. Two network calls a step, and one at the end.

    The state is noisier than the network is told. The corrector settles at 1 + snr^2 times the variance on white data,
    and in fine detail, where the score is steepest, at more (2.7 times with snr = 0.517 in the tests, which have the
    exact recursion); the predictor leaves the noise of the level that it came from, sigma_t^2 / sigma_s^2 times too
    much: 1.02 at a thousand levels, 7 at twenty. An exact denoiser forgives the second; a small network takes both for
    structure, and the picture is grain. The ancestral predictor leaves the right noise at any number of levels, and
    snr = 0.16, Score SDE's, 3 % too much: docs/medical.md has both.

    Args:
        steps: N, noise levels.
        trust: lambda, the weight of y against the state along A, from 0 to 1.
        snr: r of the corrector.
        moves: corrector moves at each level; 0 leaves it out.
        predictor: the paper's, or the ancestral one of its code (with the small variance), for fewer levels.

    Source: Song et al. 2022 (2111.08005): order of moves and settings of its public code.
    """

    steps: int = 1000
    trust: float = 0.841
    snr: float = 0.246
    moves: int = 1
    predictor: Literal["reverse-diffusion", "ancestral"] = "reverse-diffusion"
    needs = Linear

    def __post_init__(self) -> None:
        share(self, "trust")
        if self.moves < 0 or self.snr <= 0.0:
            raise ValueError(f"ScoreMedical: moves >= 0 and snr > 0 are needed, got {self.moves} and {self.snr}.")
        if self.predictor not in ("reverse-diffusion", "ancestral"):
            raise ValueError(f"ScoreMedical: predictor is 'reverse-diffusion' or 'ancestral', got {self.predictor!r}.")

    @classmethod
    def mri(cls, steps: int = 1000) -> ScoreMedical:
        """The settings for BraTS, 30 of 240 columns of k-space: trust 1, snr 0.517."""
        return cls(steps, trust=1.0, snr=0.517)

    def times(self, process: Gaussian) -> Times:
        if process.log_snr(0.0) < math.inf:
            return grids.uniform(self.steps)
        return (*grids.uniform(self.steps - 1, end=1e-3), 0.0) if self.steps > 1 else (1.0, 0.0)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Tensor:
        assert isinstance(m.operator, Linear)
        return m.operator.pinv(m.y)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)

        def mixed(x: Tensor) -> Tensor:
            return x.lerp(replaced(process, operator.project, memory, x, t, noise), self.trust)

        x = xt
        if self.moves > 0:
            x, _ = SNRLangevin(self.snr, self.moves).step(denoiser, mixed(x), t, t, None, noise)
        if self.predictor == "ancestral":
            x = ancestral(denoiser, mixed(x), t, s, noise)
        else:
            x, _ = ReverseDiffusion().step(denoiser, mixed(x), t, s, None, noise)
        if s == 0.0:
            x = denoiser(x, 0.0).mean if process.log_snr(0.0) < math.inf else x
            x = x - operator.project(x) + memory
        return x, memory


Recipe = ScoreMedical
