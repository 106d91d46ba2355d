"""GDP: generative diffusion prior for unified image restoration and enhancement (Fei et al. 2023, 2304.01247)."""

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
from sfumato.solvers.blind import rows


@dataclass(frozen=True)
class GDP(Solver):
    """x_s = ancestral(x_t) - scale grad mse(y, A u), at u = D(x_t) or at u = x_t itself; A may be found on the way.

    The gradient is taken with respect to u and added to x_s as it stands: no pass back through the network, no factor
    alpha_s. mse is the mean over the n numbers of y, on pictures in [0, 1] (a `span` of 2 divides it by 4): the pull
    of a number is scale / (2 n) times its residual. So `scale` belongs to the size it was tuned for, 3 x 256 x 256;
    other sizes need it in proportion to the numbers of x_0 (not of y: a mean of 16 pixels pulls each by a 16th).

    Blind: the operator's `parameters`, one set per row, start where the operator says and go down the gradient of mse
    at the same u, `updates` times a step; the last of these gradients moves x_s. They travel in `memory`. In
    y = f x + M (`Veil`) f and the scale of x trade against each other: the prior alone decides.

    Args:
        steps: network evaluations.
        scale: guidance scale: 2000 super-resolution; 4000 inpainting; 6000 deblurring and colorization.
        at: "x0" for GDP-x_0, "xt" for GDP-x_t.
        span: width of the range of y: 2 for [-1, 1], 1 for [0, 1].
        blind: estimate the operator's parameters too.
        updates: of the parameters in a step.
        rate: step of an update. 1 does not settle where M is one number for the whole picture (0.5 does).

    Source: Fei et al. 2023 (2304.01247): scales, unit steps and gradients of its public code, with
    the small variance for the network's own, and without the losses on colour and exposure that it leaves out too.
    """

    steps: int = 1000
    scale: float = 2000.0
    at: str = "x0"
    span: float = 2.0
    blind: bool = False
    updates: int = 1
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.at not in ("x0", "xt"):
            raise ValueError(f"GDP: the gradient is taken at x0 or xt, got {self.at!r}.")
        if self.span <= 0.0 or self.updates < 1:
            raise ValueError(f"GDP: a positive span and at least 1 update, got {self.span} and {self.updates}.")

    @classmethod
    def inpainting(cls) -> GDP:
        """The public scale of inpainting."""
        return cls(scale=4000.0)

    @classmethod
    def deblurring(cls) -> GDP:
        """The public scale of deblurring, and of colorization."""
        return cls(scale=6000.0)

    @classmethod
    def low_light(cls) -> GDP:
        """y = f x + M with both unknown, on [0, 1], as `Veil(f, M)`: begun at f = 0.01 z and M ~ U(0, 1e-4)."""
        return cls(scale=80000.0, span=1.0, blind=True, updates=6)

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> tuple[Tensor, ...] | None:
        return tuple(rows(p, xt) for p in m.operator.parameters) if self.blind else None

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        D = denoiser(xt, t).mean
        u = D if self.at == "x0" else xt
        for _ in range(self.updates):
            g, memory = self._descend(m, u, memory)
        xs = denoiser.process.reverse(Estimate(D), xt, t, s).sample(noise)
        return torch.sub(xs, g, alpha=self.scale), memory

    def _descend(self, m: Measurement, u: Tensor, parameters: Any) -> tuple[Tensor, Any]:
        """grad_u mse at these parameters, and the parameters one step further."""
        leaves: tuple[Tensor, ...] = ()
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            if parameters is None:
                operator = m.operator
            else:
                leaves = tuple(p.detach().requires_grad_() for p in parameters)
                operator = m.operator.at(leaves)
            gap = (m.y - operator(u)).abs() / self.span
            mse = (gap**2).reshape(len(m), -1).mean(1).sum()
            g, *slopes = torch.autograd.grad(mse, (u, *leaves))
        moved = tuple((p - self.rate * slope).detach() for p, slope in zip(leaves, slopes, strict=True))
        return g, moved if leaves else None


Recipe = GDP
