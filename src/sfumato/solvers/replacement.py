"""Replacement: what the measurement sees of a noisy state is redrawn from the measurement diffused to the same level.

    x  <-  x - phi(x) + phi(r),   r ~ q(x_s | x_ref) = N(alpha_s x_ref + shift_s, sigma_s^2),

with phi = A^+ A the projection on what A sees. RePaint, ILVR, MCG and CCDF do this after each step, at the level s that
the step has just reached: several public codes take the level t it came from, one step too noisy, so that the final
state never meets the clean reference. Only phi(x_ref) is needed, and for a projection that is A^+ y.

At every level the seen part of the state is a fresh draw, blind to its null space, and at the end it is y itself: for a
noisy y the spread along A is 0, and the null space follows y too little (on Gaussian data the bias has a closed form).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Process, Time, expand
from sfumato.solvers.base import Solver


def replaced(
    process: Process, phi: Callable[[Tensor], Tensor], seen: Tensor, x: Tensor, s: Time, noise: Noise
) -> Tensor:
    """x - phi(x) + phi(r), (B, *event): the formula at the head of this file.

    Args:
        phi: a linear map (B, *event) to (B, *event).
        seen: phi(x_ref), (B, *event).
        x: state at time s.
    """
    assert isinstance(process, Gaussian)
    z = process.marginal(torch.zeros_like(x), s).sample(noise)
    # In this order x - phi(x) is exactly 0 where a mask sees, and the clean end is exactly y there.
    return (x + phi(z - x)) + expand(process.alpha(s), x) * seen


def ancestral(denoiser: Denoiser, xt: Tensor, t: Time, s: Time, noise: Noise) -> Tensor:
    """x_s drawn from q(x_s | x_t, x_0 = D), the ancestral step with the small variance."""
    return denoiser.process.reverse(Estimate(denoiser(xt, t).mean), xt, t, s).sample(noise)


class Replacement(Solver):
    """A proposal for x_s, and then what was seen replaced by A^+ y at that level."""

    needs = Linear

    @abstractmethod
    def propose(self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, noise: Noise) -> Tensor:
        """x_s from x_t, (B, *event), before the replacement."""

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Tensor:
        assert isinstance(m.operator, Linear)
        return m.operator.pinv(m.y)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        assert isinstance(m.operator, Linear)
        xs = self.propose(denoiser, m, xt, t, s, noise)
        return replaced(denoiser.process, m.operator.project, memory, xs, s, noise), memory
