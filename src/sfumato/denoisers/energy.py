"""An energy as a denoiser: a scalar network whose gradient is a score, and Tweedie's formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser
from sfumato.denoisers.preconditioned import log_snr
from sfumato.estimate import Estimate
from sfumato.processes import Gaussian, Time, expand


class Energy(Denoiser):
    """D(x_t) = (x_t + sigma^2 grad log p_t - shift) / alpha, where log p_t = f(x_t, c_noise) up to a constant.

    Any sampler runs on it: `Langevin`, `Ancestral`, DDIM. The gradient is taken in every call, also under `no_grad`,
    and can be differentiated again where gradients are on: in score matching of the energy, or an attack through it.

    Args:
        net: `net(x, c_noise, cond)`, (B, *event) and (B,) to f, (B,).
        process: a Gaussian process; needs alpha > 0.
        clock: c_noise of a time; log SNR held to [-40, 40] if not given.

    Source: Robbins 1956, Efron 2011 for Tweedie's formula; Salimans & Ho 2021, "Should EBMs model the energy or the
    score?", for energies of diffusion models.
    """

    def __init__(self, net: nn.Module, process: Gaussian, *, clock: Callable[[Time], Time] | None = None) -> None:
        super().__init__()
        self.net, self.process, self.clock = net, process, clock

    def log_density(self, xt: Tensor, t: Time, cond: Any = None) -> Tensor:
        """log p_t(x_t) up to a constant of t and cond, in nats, (B,)."""
        process = self.process
        assert isinstance(process, Gaussian)
        told = self.clock(t) if self.clock else log_snr(process.alpha(t), process.sigma(t))
        level = torch.as_tensor(told, dtype=torch.float64)
        return self.net(xt, level.to(xt).expand(len(xt)), cond)

    def score(self, xt: Tensor, t: Time, cond: Any = None) -> Tensor:
        """grad log p_t(x_t), (B, *event)."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            x = xt if xt.requires_grad else xt.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_density(x, t, cond).sum(), x, create_graph=graph)
        return slope

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process if cond is None else self.process.bind(cond)
        assert isinstance(process, Gaussian)
        pulled = xt + expand(process.sigma(t), xt) ** 2 * self.score(xt, t, cond) - process.shift(t, xt)
        return Estimate(pulled / expand(process.alpha(t), xt))
