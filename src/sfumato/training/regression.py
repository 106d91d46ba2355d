"""Regression of x_0 on x_t, for any process: what methods are trained by whose loss names no noise."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.training.times import TimeLaw, Uniform


class Regression(nn.Module):
    """mean |x_0 - D(x_t, t, cond)|^power, t from `times`, x_t from the marginal of the process bound to the condition.

    Args:
        denoiser: the model.
        times: law of t, one draw for each sample; uniform if not given.
        power: 1, whose best D is the median of x_0, or 2, whose best D is the mean.
    """

    def __init__(self, denoiser: Denoiser, times: TimeLaw | None = None, power: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.times, self.power = denoiser, times or Uniform(), power

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        process = self.denoiser.process.bind(cond)
        t = self.times(process, len(x0), noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        return (x0 - self.denoiser(xt, t, cond).mean).abs().pow(self.power).flatten(1).mean(1)
