"""RePaint: inpainting using denoising diffusion probabilistic models (Lugmayr et al. 2022, 2201.09865)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import indexed
from sfumato.solvers.replacement import Replacement, ancestral


@dataclass(frozen=True)
class RePaint(Replacement):
    """Ancestral steps, after each of which what was seen is replaced by y at the same level; then back up, and again.

    x_s = M (alpha_s y + sigma_s z) + (1 - M) ancestral(x_t); a move up draws q(x_t | x_s). Any linear operator has
    A^+ A in place of the mask M (ours). Biased by design, see `replacement`: A x = y at the end whatever sigma_y is;
    more passes bring the mean of the null space nearer to what y says of it, and take spread away.

    Args:
        steps: network evaluations without resampling.
        jump: steps of a move up; counted from the last level before the clean end, as in the paper's schedule.
        repeats: passes over each stretch: 2410 evaluations in all (the paper counts the moves up as well: 4570).

    The ancestral step has the small variance (the paper's network learns one).
    Source: Lugmayr et al. 2022 (2201.09865) algorithm 1; schedule and defaults of its public code.
    """

    steps: int = 250
    jump: int = 10
    repeats: int = 10

    @classmethod
    def projection(cls, steps: int = 1000) -> RePaint:
        """Without resampling: the inpainting of Song et al. 2021 (2011.13456) appendix I.2, on an ancestral sampler."""
        return cls(steps=steps, repeats=1)

    def times(self, process: Gaussian) -> Times:
        return resampled(tuple(indexed(process, self.steps, "linspace")), self.jump, self.repeats)

    def propose(self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, noise: Noise) -> Tensor:
        return ancestral(denoiser, xt, t, s, noise)


def resampled(times: tuple[float, ...], jump: int, repeats: int) -> tuple[float, ...]:
    """`grids.travel`, with its stretches counted back from the last level above the clean end.

    Of 250 levels with jump 10: straight down to 241, then 241 to 231 `repeats` times, ..., 11 to 1, and to 0.
    """
    if jump < 1 or repeats < 1:
        raise ValueError(f"jump and repeats are at least 1, got {jump} and {repeats}.")
    first = (len(times) - 2) % jump
    return (*times[:first], *grids.travel(times[first:], jump=jump, repeats=repeats))


Recipe = RePaint
