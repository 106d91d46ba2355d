"""The exact denoiser of a set of examples: a prior that needs no training, for kernels and other small things."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Gaussian, Time


class Examples(Denoiser):
    """E[x_0 | x_t] where x_0 is one of K examples, each as likely: sum_k w_k x_k, w = softmax(log q(x_t | x_0 = x_k)).

    `MixtureWorld` with covariances 0 is the same, at a cost that grows as the cube of the size. It cannot make what is
    not among its examples: a last state is one of them, or a mean of a few.

    Args:
        examples: (K, *event), model space.
        process: one noise level for all elements.
    """

    def __init__(self, examples: Tensor, process: Gaussian) -> None:
        super().__init__()
        self.register_buffer("examples", examples)
        self.process = process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process
        assert isinstance(process, Gaussian)
        known: Tensor = self.examples.to(xt)  # type: ignore[operator, assignment]
        alpha, sigma = (
            torch.as_tensor(v, dtype=xt.dtype, device=xt.device).reshape(-1, 1, 1)
            for v in (process.alpha(t), process.sigma(t))
        )
        u = (xt - process.shift(t, xt)).flatten(1)[:, None]
        gap = ((u - alpha * known.flatten(1)) / sigma).square().sum(2)
        w = torch.softmax(-0.5 * gap, 1)
        return Estimate((w @ known.flatten(1)).reshape(xt.shape))
