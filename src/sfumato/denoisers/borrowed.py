"""A denoiser of another library: a function of a noisy picture and its noise level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Gaussian, Time, expand


class OfLevel(Denoiser):
    """E[x_0 | x_t] = f(x_t / alpha, sigma / alpha): f(x_0 + level n, level) removes the noise n ~ N(0, I).

    The denoisers of deepinv are such functions in data space [0, 1]; with scale = shift = 0.5 f is
    asked there: f(scale u + shift, scale level). One of azula is (lambda x, level: d(x, time of level).mean) with a
    schedule of alpha = 1. Where alpha = 0 nothing is left of x_0 and f cannot be asked: start below it.

    Args:
        function: (noisy, (B,) levels) to the denoised, both (B, *event).
        process: any Gaussian one without a shift.
        scale, shift: data = scale z + shift, of the space that the function works in.

    Raises:
        ValueError: in a call at alpha = 0.
    """

    def __init__(
        self, function: Callable[[Tensor, Tensor], Any], process: Gaussian, *, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        super().__init__()
        self.function, self.process, self.scale, self.shift = function, process, scale, shift

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process
        assert isinstance(process, Gaussian)
        alpha, sigma = process.alpha(t), process.sigma(t)
        if bool(torch.as_tensor(alpha == 0.0).any()):
            raise ValueError("a denoiser of noise levels cannot be asked where alpha = 0: start the grid below t = 1.")
        level = torch.as_tensor(self.scale * sigma / alpha, dtype=xt.dtype, device=xt.device).expand(len(xt))
        clean = self.function(self.scale * xt / expand(alpha, xt) + self.shift, level)
        return Estimate((clean - self.shift) / self.scale)
