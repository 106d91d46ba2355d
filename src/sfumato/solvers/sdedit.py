"""SDEdit: guided image synthesis and editing with stochastic differential equations (Meng et al. 2022, 2108.01073)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver
from sfumato.solvers.replacement import ancestral


@dataclass(frozen=True)
class SDEdit(Solver):
    """The guide is noised to an intermediate time t0, and the reverse process runs from there.

    The measurement is the guide: `Measurement(Identity(), guide, sigma=0.0)`; through another linear operator the guide
    is A^+ y. Its noise level is not used, and A is not held to: t0 alone says how far the result may go, from the guide
    (t0 = 0) to a sample of the prior that has forgotten it (t0 = 1). What may change is a setting, not a `Mask` as the
    operator, since the strokes of a guide lie where the picture changes: y must be known everywhere.

    Where `edit` is 0, x_s = alpha_s guide + sigma_s z with one z for the whole pass, the noise of its start; the guide
    itself at the end. Each pass starts from what the one before made, and from the guide where `edit` is 0.
    On Gaussian data one pass draws N(m + G (guide - m), V), G = alpha^2 C (alpha^2 C + sigma^2)^{-1} at t0.

    Args:
        t0: where the reverse process starts, in (0, 1]; 0.3 to 0.6 in the paper.
        passes: K, how often the result goes back to t0.
        steps: network evaluations of a pass.
        edit: 1 where the result may differ from the guide, broadcastable to (B, *event); everywhere unless given.

    Source: Meng et al. 2022 (2108.01073): the defaults of its public code (500 of 1000 steps, three
    passes, small variance), which leaves the kept part one step too noisy.
    """

    t0: float = 0.5
    passes: int = 3
    steps: int = 500
    edit: Tensor | None = field(default=None, compare=False)
    needs = Linear
    warm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.t0 <= 1.0 or self.passes < 1:
            raise ValueError(
                f"SDEdit: 0 < t0 <= 1 and at least 1 pass are needed, got {self.t0} and {self.passes} "
                "(t0 = 0 would be the guide itself)."
            )

    def times(self, process: Gaussian) -> Times:
        return grids.uniform(self.steps, start=self.t0) * self.passes

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        assert isinstance(m.operator, Linear)
        return denoiser.process.marginal(m.operator.pinv(m.y), t).sample(noise)  # type: ignore[attr-defined]

    def restart(self, denoiser: Denoiser, m: Measurement, xt: Tensor, memory: Any) -> None:
        """Each pass has its own z."""
        return

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        xs = ancestral(denoiser, xt, t, s, noise)
        if self.edit is None:
            return xs, None
        process, operator = denoiser.process, m.operator
        assert isinstance(process, Gaussian) and isinstance(operator, Linear)
        guide, z = memory or _first(process, operator.pinv(m.y), xt, t)
        kept = process.perturb(guide, s, z)
        return torch.where(self.edit.to(xs.device) > 0, xs, kept), (guide, z)


def _first(process: Gaussian, guide: Tensor, xt: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """The guide, and the noise that leads from it to the state at the start of a pass."""
    return guide, process.eps(xt, guide, t)


Recipe = SDEdit
