"""Solvers whose state is clean at every step: the time of a step says what level of noise the step works at."""

from __future__ import annotations

from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Sampler, sample
from sfumato.solvers.base import Solver
from sfumato.solvers.tweedie import inside


class OnData(Solver):
    """A solver that moves an estimate of x_0 itself, from what y says of it."""

    warm = True

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        """A^T (A A^T + sigma_y^2 I)^{-1} y, (B, *event): A^+ y where there is no noise, which A^+ would blow up without
        bound (ours; public codes leave singular values of a blur below 0.03 out of A^+). A^+ y where A is not linear,
        zeros where it has none."""
        operator, like = m.operator, self.like(denoiser, m)
        if isinstance(operator, Linear):
            return like + operator.ridge(m.y, m.sigma**2)
        pinv = getattr(operator, "pinv", None)
        return like if pinv is None else like + pinv(m.y)


def clean(
    denoiser: Denoiser,
    sampler: Sampler,
    xt: Tensor,
    t: float,
    noise: Noise,
    *,
    steps: int,
    rho: float = 7.0,
    low: float = 0.002,
) -> Tensor:
    """x_0 from x_t by `steps` steps of a sampler, (B, *event): Karras' grid from the level of t to `low`, then 0.

    With a sampler that draws from the reverse process it is a draw from p(x_0 | x_t), with an ODE it is not.
    """
    process = denoiser.process
    assert isinstance(process, Gaussian)
    times = (*descent(process, t, steps - 1, rho=rho, low=low), 0.0)
    return sample(denoiser, sampler, x1=xt, times=times, noise=noise)


def descent(process: Gaussian, t: float, steps: int, *, rho: float = 7.0, low: float) -> tuple[float, ...]:
    """Karras' grid of `steps` steps from the level of t to `low`; t alone where there is nothing to descend."""
    level = noise_level(process, t)
    if steps < 1 or level <= low:
        return (t,)
    return grids.karras(process, steps + 1, rho=rho, sigma_min=low, sigma_max=level, start=t)[: steps + 1]


def noise_level(process: Gaussian, t: Time) -> float:
    """sigma / alpha, the noise on x_t / alpha, held to 1e4.

    Raises:
        ValueError: if the noise of the process differs from element to element, or in the batch.
    """
    if not isinstance(process.scale, float) or not isinstance(t, float):
        raise ValueError("this solver needs one noise level for all elements and the whole batch. Use MMPS.")
    t = inside(process, t)
    return float(process._level(t) / process.alpha(t))
