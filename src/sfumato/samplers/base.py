"""Samplers: a pure step, and a generator that runs it over a grid of times.

A sampler is frozen settings: no denoiser, no times, no counters inside. What it must remember between steps goes in and
comes out of `step` as `memory`, so one object serves two batches, two threads, or is stepped by hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Time

Times = Sequence[float] | Tensor


class Step(NamedTuple):
    """One state of a trajectory: number (0: the start), time, state (B, *event) in model space, sampler's memory."""

    index: int  # type: ignore[assignment]
    time: Time
    x: Tensor
    memory: Any


class Sampler(ABC):
    """Frozen settings of a way from noise to data."""

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        """Memory before the first step."""
        return None

    @abstractmethod
    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        """(x_s, memory) from x_t, for s <= t."""

    def restart(self, denoiser: Denoiser, xt: Tensor, memory: Any) -> Any:
        """Memory after a move upwards in a grid that travels; a history of estimates is of no use there."""
        return self.init(denoiser, xt)


def trajectory(
    denoiser: Denoiser, sampler: Sampler, x1: Tensor, times: Times, noise: Noise, *, grad: bool = False
) -> Iterator[Step]:
    """Yields the start and then the state after each step of `times`.

    Progress bars, previews, early stopping and saving every k-th state are loops over this generator. A step upwards in
    time draws q(x_s | x_t), as in RePaint, and restarts the sampler's memory.

    Args:
        x1: state at times[0], (B, *event), model space.
        times: floats, or a tensor whose first axis is the step, for a time per sample (n, B) or frame (n, B, F).
        grad: keep the graph of every step (networks trained or attacked through the sampler).
    """
    grid = list(times)
    with torch.set_grad_enabled(grad):
        x, memory = x1, sampler.init(denoiser, x1)
    del x1  # or the start would stay in memory to the end
    yield Step(0, grid[0], x, memory)
    for i in range(1, len(grid)):
        t, s = grid[i - 1], grid[i]
        with torch.set_grad_enabled(grad):
            if isinstance(t, float) and s > t:
                x = denoiser.process.forward(x, t, s).sample(noise)
                memory = sampler.restart(denoiser, x, memory)
            else:
                x, memory = sampler.step(denoiser, x, t, s, memory, noise)
        yield Step(i, s, x, memory)


def sample(
    denoiser: Denoiser,
    sampler: Sampler,
    *,
    shape: Sequence[int] | None = None,
    x1: Tensor | None = None,
    times: Times,
    noise: Noise,
    denoise: bool = False,
    grad: bool = False,
) -> Tensor:
    """The state at times[-1], (B, *event), model space.

    Args:
        shape: (B, *event) of a start drawn from the prior, in torch's default dtype on the denoiser's device; or
        x1: the start itself, whose device and dtype the run keeps.
        times: the grid, from `grids`; without `x1` it must begin at 1.
        denoise: end with one more call of the denoiser, and return its mean: for processes with sigma(0) > 0.

    Raises:
        ValueError: unless exactly one of `shape` and `x1` is given.
    """
    if (shape is None) == (x1 is None):
        raise ValueError("give either `shape` (a start drawn from the prior) or `x1` (a start of your own).")
    if x1 is None:
        if bool(torch.as_tensor(times[0] != 1.0).any()):
            raise ValueError(f"the grid starts at t = {times[0]}, where the prior is not the law of x_t: give `x1`.")
        x1 = denoiser.process.prior(blank(denoiser, shape)).sample(noise)  # type: ignore[arg-type]
    last = None
    for last in trajectory(denoiser, sampler, x1, times, noise, grad=grad):
        pass
    assert last is not None
    if not denoise:
        return last.x
    with torch.set_grad_enabled(grad):
        return denoiser(last.x, last.time).mean


def blank(denoiser: Denoiser, shape: Sequence[int]) -> Tensor:
    """Zeros of this shape in torch's default dtype on the device of the denoiser's parameters (or buffers)."""
    where = next((p.device for p in (*denoiser.parameters(), *denoiser.buffers())), torch.device("cpu"))
    return torch.zeros(tuple(shape), device=where)
