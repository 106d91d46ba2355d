"""Objectives on categories, in bits per dimension: a chain with an auxiliary loss, continuous time, random orders."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.laws import Categorical
from sfumato.likelihood import chain_term, jump_term, known_after, unknown_loss
from sfumato.likelihood.discrete import floored
from sfumato.noise import Noise
from sfumato.processes import Categories, Jumping
from sfumato.training.times import LowDiscrepancy, Steps, TimeLaw


class DiscreteChain(nn.Module):
    """N (L_n - weight log p(x_0 | x_n)), n uniform on 1 .. N, L_n one term of the chain.

    The mean of the first part is the bound without the prior, a constant. The public code trains on L_n - weight log p,
    without N, and so does this up to the factor N: its weight 0.001 counts N times as much beside L_vb as in the
    paper's L_vb + weight E[-log p].

    Args:
        denoiser: of a process on categories.
        steps: N.
        weight: of the auxiliary cross-entropy: 0.001 for pictures, 0.01 for masked text, 0 for uniform text.

    Source: Austin et al. 2021 (2107.03006) eq. 5, sections 5 and 6, public code.
    """

    def __init__(self, denoiser: Denoiser, steps: int = 1000, weight: float = 0.001) -> None:
        super().__init__()
        self.denoiser, self.weight, self.times = denoiser, weight, Steps(steps)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), bits per dimension."""
        process, N = self.denoiser.process, self.times.steps
        assert isinstance(process, Categories)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        estimate = self.denoiser(xt, t, cond)
        nats = chain_term(process, estimate, x0, xt, t, (torch.round(t * N) - 1.0) / N)
        nats = nats - self.weight * Categorical(floored(estimate.mean)).log_prob(x0)
        return N * _bits(nats, x0)


class Jumps(nn.Module):
    """The integrand of the bound in continuous time at a random t: its mean is the bound without the prior.

    With a mask this is the weighted cross-entropy of masked diffusion, -keep' / (1 - keep) sum over masked positions of
    -log p(x_0 | x_t).

    Args:
        denoiser: of a process in continuous time.
        times: law of t, uniform on [0, 1) as a whole; low-discrepancy by default.

    Source: Shi et al. 2024 (2406.04329) eq. 4; Sahoo et al. 2024 (2406.07524) eq. 10; Campbell et al. 2022
    (2205.14987).
    """

    def __init__(self, denoiser: Denoiser, times: TimeLaw | None = None) -> None:
        super().__init__()
        if not isinstance(denoiser.process, Jumping):
            raise ValueError(
                f"a bound in continuous time needs rates of jumps, got {type(denoiser.process).__name__}: "
                "take Discrete or Neighbours, or train the chain."
            )
        self.denoiser, self.times = denoiser, times or LowDiscrepancy()

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), bits per dimension."""
        process = self.denoiser.process
        assert isinstance(process, Jumping)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        return _bits(jump_term(process, self.denoiser(xt, t, cond), x0, xt, t), x0)


class OrderAgnostic(nn.Module):
    """D / (D - k) sum over the unknown positions of -log p(x_i | k known ones), k uniform on 0 .. D - 1, any k of them.

    Its mean is the bound on -log p(x_0): the mean over orders of the exact code length in that order. To it comes
    weight times the plain sum of the same logarithms.

    Args:
        denoiser: on a process with a mask, told t = 1 - k / D.
        weight: of the plain cross-entropy: 1e-3 for pictures, 1e-4 for text.

    Source: Hoogeboom et al. 2022 (2110.02037) algorithm 2, eq. 3 and appendix; public code (k uniform).
    """

    def __init__(self, denoiser: Denoiser, weight: float = 1e-3) -> None:
        super().__init__()
        if getattr(denoiser.process, "mask", None) is None:
            raise ValueError("random orders need a mask for what is unknown: take Discrete(K + 1, absorbing=K).")
        self.denoiser, self.weight = denoiser, weight

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), bits per dimension."""
        B, D = x0.shape[0], x0[0].numel()
        k = (noise.uniform(torch.empty(B, dtype=torch.float64)) * D).floor()
        order = noise.uniform(torch.empty(B, D, dtype=torch.float64)).argsort(1)
        nats = unknown_loss(self.denoiser, x0, known_after(order, k), (1.0 - k / D).to(x0.device))
        return _bits(nats * (D / (D - k) + self.weight).to(nats), x0)


def _bits(nats: Tensor, x0: Tensor) -> Tensor:
    return nats / (x0[0].numel() * math.log(2))
