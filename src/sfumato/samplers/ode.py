"""The probability-flow ODE solved to a tolerance, by the adaptive solvers of torchdiffeq (extra `ode`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.processes import Gaussian

States = tuple[Tensor, ...]


class Solved(NamedTuple):
    """What an adaptive run gives: the state at its end, (B, *event), and the calls of the denoiser that it took."""

    x: Tensor
    calls: int


def integrate(
    field: Callable[[float, States], States],
    states: States,
    t: float,
    s: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "dopri5",
) -> tuple[States, int]:
    """(states at s, evaluations of `field`) of d states / dt = field(t, states), from t to s, up or down.

    One step size for the whole batch, from the error of all rows together: a row depends on its batch, within the
    tolerances. No gradients.

    Args:
        method: of torchdiffeq: "dopri5" (scipy's RK45), "dopri8", "bosh3", ...

    Raises:
        ModuleNotFoundError: without torchdiffeq, naming the extra.
    """
    try:
        from torchdiffeq import odeint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("adaptive solvers need torchdiffeq: pip install 'sfumato[ode]'") from error
    calls = 0

    def counted(time: Tensor, states: States) -> States:
        nonlocal calls
        calls += 1
        return field(float(time), states)

    with torch.no_grad():
        ends = torch.tensor([t, s], dtype=torch.float64, device=states[0].device)
        # `step_t`: the last step is cut to end there. Otherwise it goes beyond and is read between, and t < 0 is met.
        path = odeint(counted, states, ends, rtol=rtol, atol=atol, method=method, options={"step_t": ends[1:]})
    return tuple(values[-1] for values in path), calls


def sample_ode(
    denoiser: Denoiser,
    x1: Tensor,
    *,
    start: float = 1.0,
    end: float = 1e-3,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "dopri5",
) -> Solved:
    """The state at `end` on the flow dx/dt = v(x, t) through x1 at `start`; end > start encodes.

    The velocity of a VP process is infinite at t = 0: end above it. Source: Song et al. 2021 (2011.13456) eq. 13 and
    appendix D.2, with RK45 and these tolerances.

    Args:
        x1: (B, *event), model space.

    Raises:
        ModuleNotFoundError: without torchdiffeq, naming the extra.
    """
    process = denoiser.process
    assert isinstance(process, Gaussian)

    def field(t: float, states: States) -> States:
        (x,) = states
        return (process.velocity(x, denoiser(x, t).mean, t),)

    (x,), calls = integrate(field, (x1,), start, end, rtol=rtol, atol=atol, method=method)
    return Solved(x, calls)
