"""CoPaint: coherent image inpainting using denoising diffusion implicit models (Zhang et al. 2023, 2304.03322)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed
from sfumato.solvers.repaint import resampled

_TRIES = 50  # 0.8^50 = 1e-5 of the rate: a step that still raises the loss is not taken


@dataclass(frozen=True)
class CoPaint(Solver):
    """The whole x_t is moved until D(x_t) agrees with y, near to where DDIM brought it; then a DDIM step.

    x_t <- argmin_x |y - A D(x)|^2 + c |x - x~_t|^2, by a few gradient steps from x~_t; a step that raises the loss is
    tried again with 0.8 of the rate. The k-th level from the top has the rate lr lr_decay^k alpha_t and the weight
    c c_decay^k. Loss and rate are per sample: the public code adds up the batch and shares one rate (and
    repeats a failing step for ever, where 50 tries end it here). No clipping: wrap the denoiser in `Clipped`.

    y is met closely, never exactly, and sigma_y is not used. Each gradient step costs a backward pass and as many calls
    as its line search tries.

    Args:
        steps: DDIM steps, without travel.
        moves: G, gradient steps at each level.
        lr, lr_decay: rate of the first level, and its growth with each step.
        c, c_decay: weight of the proposal and its growth: the public configuration of CelebA-HQ.
        jump, repeats: RePaint's travel. Before each move up the state is optimised once more.

    Source: Zhang et al. 2023 (2304.03322): schedules, line search and defaults of its public code.
    """

    steps: int = 250
    moves: int = 2
    lr: float = 0.02
    lr_decay: float = 1.012
    c: float = 1e-4
    c_decay: float = 1.01
    jump: int = 1
    repeats: int = 1
    differentiates = True

    def __post_init__(self) -> None:
        if min(self.lr, self.lr_decay, self.c_decay) <= 0.0 or self.c < 0.0 or self.moves < 0:
            raise ValueError("CoPaint: lr, lr_decay and c_decay are positive, c and moves at least 0.")

    @classmethod
    def imagenet(cls) -> CoPaint:
        """The public configuration of ImageNet: a firmer, constant weight."""
        return cls(c=0.01, c_decay=1.0)

    @classmethod
    def tt(cls) -> CoPaint:
        """CoPaint-TT: with time travel, two passes over stretches of ten steps."""
        return cls(jump=10, repeats=2)

    @classmethod
    def fast(cls) -> CoPaint:
        """CoPaint-Fast: 100 steps with one gradient step each."""
        return cls(steps=100, moves=1, lr_decay=1.03)

    def times(self, process: Gaussian) -> Times:
        path = resampled(tuple(indexed(process, self.steps, "linspace")), self.jump, self.repeats)
        # A step from a level to itself optimises and does not move.
        again = [(t, t) if s > t else (t,) for t, s in zip(path, (*path[1:], 0.0), strict=True)]
        return tuple(t for pair in again for t in pair)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> dict[Time, int]:
        """How many steps below the top each visited level is."""
        return {}

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        process, k = denoiser.process, memory.get(t, 0)
        assert isinstance(process, Gaussian)
        lr = self.lr * self.lr_decay**k * process.alpha(t)
        x, D = self._optimise(denoiser, m, xt, t, lr, self.c * self.c_decay**k)
        xs = process.reverse(Estimate(D), x, t, s, 0.0).sample(noise)
        return xs, memory if s == t else {**memory, t: k, s: k + 1}

    def _optimise(
        self, denoiser: Denoiser, m: Measurement, start: Tensor, t: Time, lr: float, c: float
    ) -> tuple[Tensor, Tensor]:
        """The state moved towards y, and its clean estimate, both (B, *event)."""

        def loss(x: Tensor) -> tuple[Tensor, Tensor]:
            D = denoiser(x, t).mean
            gap = m.residual(D)
            return (gap.abs() ** 2).reshape(len(m), -1).sum(1) + c * ((x - start) ** 2).reshape(len(m), -1).sum(1), D

        rate = start.new_full((len(m), *[1] * (start.ndim - 1)), lr)
        x, D = start, None
        for _ in range(self.moves):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                now, D = loss(x)
                (g,) = torch.autograd.grad(now.sum(), x)
            x, now, D = x.detach(), now.detach(), D.detach()
            open_ = torch.ones_like(rate, dtype=torch.bool)
            for _ in range(_TRIES):
                tried = torch.where(open_, x - rate * g, x)
                then, D_tried = loss(tried)
                # not (then > now) would take a NaN
                good = open_ & (then <= now).reshape(rate.shape)
                x, D = torch.where(good, tried, x), torch.where(good, D_tried, D)
                open_ = open_ & ~good
                if not bool(open_.any()):
                    break
                rate = torch.where(open_, 0.8 * rate, rate)
        return x, denoiser(x, t).mean if D is None else D


Recipe = CoPaint
