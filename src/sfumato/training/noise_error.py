"""Losses on the noise that are no weighted squares: absolute, its logarithm, whitened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, exact, expand
from sfumato.training.times import TimeLaw

Norm = Callable[[Tensor], Tensor]


class NoiseError(nn.Module):
    """norm(e - e_hat), e = (x_t - alpha x_0 - shift) / sigma, t from `times`: the error alpha (D - x_0) / sigma.

    Where sigma has an elementwise scale S, it is the whitened error S^-1 (S e - S e_hat).

    Args:
        norm: of the errors (B, n), one number each; `absolute`, `squared` or `log_absolute`.
        of: whose alpha and sigma the error is in; those of the process if not given.

    Source: Chen et al. 2021 (2009.00713) eq. 11 (absolute); Lee et al. 2022 (2106.06406) eq. 6 (whitened squares); Lee
    & Han 2021 (2104.02321) eq. 9 (logarithm).
    """

    def __init__(self, denoiser: Denoiser, times: TimeLaw, norm: Norm, of: Gaussian | None = None) -> None:
        super().__init__()
        self.denoiser, self.times, self.norm, self.of = denoiser, times, norm, of

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        t = exact(self.times(process, x0.shape[0], noise).to(x0.device))
        xt = process.marginal(x0, t).sample(noise)
        error = self.denoiser(xt, t, cond).mean - x0
        unit = self.of or process
        ratio = expand(unit.alpha(t), x0) / expand(unit.sigma(t), x0)
        return self.norm((ratio * error).flatten(1))


def absolute(error: Tensor) -> Tensor:
    """Mean |e|."""
    return error.abs().mean(1)


def squared(error: Tensor) -> Tensor:
    """Mean e^2."""
    return error.square().mean(1)


def log_absolute(error: Tensor) -> Tensor:
    """log mean |e|, the mean held to 1e-20 or more: loud and quiet clips pull alike."""
    return error.abs().mean(1).clamp(min=1e-20).log()
