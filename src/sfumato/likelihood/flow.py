"""Exact likelihood along the probability-flow ODE.

    log p_0(x) = log p_1(x_1) + integral_0^1 div v(x_t, t) dt,

with v the velocity of the flow, alpha' D + shift' + sigma' eps_hat. Source: Song et al. 2021 (2011.13456) eq. 39.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.likelihood.divergence import rademacher, with_divergence
from sfumato.noise import Noise
from sfumato.processes import Gaussian
from sfumato.samplers.ode import integrate


def log_prob(
    denoiser: Denoiser,
    x0: Tensor,
    times: Sequence[float],
    *,
    noise: Noise | None = None,
    probes: int = 1,
    graph: bool = False,
) -> Tensor:
    """log p(x0) of each row in nats, (B,), at the first time of the grid.

    Fourth-order Runge-Kutta steps between the times, state and divergence together. Where sigma(0) = 0 begin a little
    later (1e-3): the number is then that of data with this much noise, alpha x_0 + sigma eps.

    Args:
        x0: (B, *event), model space; the state at times[0].
        times: rising from near 0 to 1, four denoiser calls for each step.
        noise: for Hutchinson's estimate of the divergence, with `probes` Rademacher vectors held fixed along the path:
            unbiased, one vector-Jacobian product each. None: the exact trace, d of them.
        graph: keep what is needed to differentiate it in x0, where the path is a prior.

    Raises:
        ValueError: if the times do not rise.
    """
    if any(b <= a for a, b in zip(times, list(times)[1:], strict=False)):
        raise ValueError("likelihood runs from data to noise: give times that rise, such as 1e-3 to 1.")
    process = denoiser.process
    assert isinstance(process, Gaussian)
    vectors = None if noise is None else rademacher(x0, noise, probes)
    x, total = x0, torch.zeros(x0.shape[0], dtype=x0.dtype, device=x0.device)
    for t, s in zip(times, list(times)[1:], strict=False):
        h, mid = s - t, 0.5 * (t + s)
        v1, d1 = _velocity_and_divergence(denoiser, x, t, vectors, graph)
        v2, d2 = _velocity_and_divergence(denoiser, x + 0.5 * h * v1, mid, vectors, graph)
        v3, d3 = _velocity_and_divergence(denoiser, x + 0.5 * h * v2, mid, vectors, graph)
        v4, d4 = _velocity_and_divergence(denoiser, x + h * v3, s, vectors, graph)
        x = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        total = total + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return process.prior(x).log_prob(x) + total


class Density(NamedTuple):
    """log p of each row in nats, (B,), and the calls of the denoiser that it took."""

    log_prob: Tensor
    calls: int


def log_prob_adaptive(
    denoiser: Denoiser,
    x0: Tensor,
    *,
    start: float = 1e-5,
    noise: Noise | None = None,
    probes: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "dopri5",
) -> Density:
    """`log_prob` with steps chosen to a tolerance, state and divergence together; needs torchdiffeq (extra `ode`).

    Args:
        x0: (B, *event), model space; the state at `start`.
        noise, probes: Hutchinson's estimate, its vectors held fixed along the path; None: the exact trace.

    Raises:
        ModuleNotFoundError: without torchdiffeq, naming the extra.

    Source: Song et al. 2021 (2011.13456) appendix D.2: RK45 with these tolerances, from 1e-5.
    """
    process = denoiser.process
    assert isinstance(process, Gaussian)
    vectors = None if noise is None else rademacher(x0, noise, probes)
    total = torch.zeros(x0.shape[0], dtype=x0.dtype, device=x0.device)

    def field(t: float, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return _velocity_and_divergence(denoiser, states[0], t, vectors)

    (x, total), calls = integrate(field, (x0, total), start, 1.0, rtol=rtol, atol=atol, method=method)
    return Density(process.prior(x).log_prob(x) + total, calls)


def _velocity_and_divergence(
    denoiser: Denoiser, x: Tensor, t: float, vectors: list[Tensor] | None, graph: bool = False
) -> tuple[Tensor, Tensor]:
    """(v, div v) of the probability-flow ODE."""
    process = denoiser.process
    assert isinstance(process, Gaussian)
    return with_divergence(lambda x: process.velocity(x, denoiser(x, t).mean, t), x, vectors, graph=graph)
