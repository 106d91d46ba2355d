"""Progressive distillation for fast sampling of diffusion models (Salimans & Ho 2022, 2202.00512)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_v
from sfumato.processes import Cosine
from sfumato.recipes.pictures import Labelled
from sfumato.samplers import DDIM
from sfumato.training import Denoising, Uniform, truncated_snr
from sfumato.training.progressive import ProgressiveDistillation


@dataclass(frozen=True)
class Recipe(Labelled):
    """DDIM in ever fewer steps: each round a student learns to do two steps of its teacher in one.

    alpha = cos(pi t / 2); the network says v; loss max(SNR, 1) |x_0 - D|^2. `objective` trains the first teacher; then,
    for N in `rounds()`: student = copy of the teacher, trained with `distill(student, teacher, N)`, is the next
    teacher. Sample the last with `sampler()` over `times(N)`. The network is the library's U-Net (ours).

    Args:
        start: DDIM steps of the first teacher.
        stop: those of the last student.

    Source: Salimans & Ho 2022 (2202.00512) algorithm 2, section 4.
    """

    start: int = 1024
    stop: int = 4

    def process(self) -> Cosine:
        """alpha = cos(pi t / 2)."""
        return Cosine(0.0)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        return Preconditioned(self.net(), self.process(), predict_v)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The first teacher's loss, truncated SNR weighting, t uniform."""
        return Denoising(denoiser, Uniform(1e-5, 1.0), truncated_snr, **self.dropping())

    def rounds(self) -> tuple[int, ...]:
        """Steps of the student of each round: start / 2, start / 4, ... as long as they are `stop` or more."""
        steps, found = self.start // 2, []
        while steps >= max(1, self.stop):
            found.append(steps)
            steps //= 2
        return tuple(found)

    def student(self, teacher: Denoiser) -> Denoiser:
        """A trainable copy of the teacher."""
        return copy.deepcopy(teacher).requires_grad_(True)

    def distill(self, denoiser: Denoiser, teacher: Denoiser, steps: int) -> ProgressiveDistillation:
        """The loss of a round whose student takes `steps` steps."""
        return ProgressiveDistillation(denoiser, teacher, steps, truncated_snr)

    def sampler(self) -> DDIM:
        """DDIM."""
        return DDIM()

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """The student's grid, `stop` steps if not given."""
        return grids.uniform(steps or self.stop)
