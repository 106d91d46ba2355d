"""The bound of Sohl-Dickstein et al. 2015, whose first step is absorbed, for normals and for bits.

    K = - sum_{n=2}^N E KL(q(x_{n-1} | x_n, x_0) | p(x_{n-1} | x_n)) + H_q(X_N | X_0) - H_q(X_1 | X_0) - H_p(X_N)

The first kernel is fixed, p(x_0 | x_1) = q(x_1 | x_0) pi(x_0) / pi(x_1), so that it needs no decoder and K is a bound
on E log p(x_0) in so far as pi(x_0) / pi(x_1) averages to nothing. With the exact reverse laws K = -H_q(X_1), the
entropy one step above the data.

Source: Sohl-Dickstein et al. 2015 (1503.03585) eq. 13 and 14, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Law, Normal
from sfumato.likelihood.elbo import Bound
from sfumato.noise import Noise
from sfumato.processes import Bernoulli, Binomial, Process, Time
from sfumato.processes.variances import Reverse, known


class Trajectory(NamedTuple):
    """The terms of K, in nats.

    Attributes:
        steps: KL of each step n = N .. 2, from noise to data, (B, N - 1).
        last, first: H_q(X_N | X_0) and H_q(X_1 | X_0), (B,).
        prior: H_p(X_N), (B,).
    """

    steps: Tensor
    last: Tensor
    first: Tensor
    prior: Tensor

    @property
    def total(self) -> Tensor:
        """K, (B,): a bound on log p(x_0) from below."""
        return -self.steps.sum(1) + self.last - self.first - self.prior

    def bits(self, dims: int) -> Tensor:
        """-K in bits per dimension, (B,)."""
        return -self.total / (dims * math.log(2))


def entropy(law: Law) -> Tensor:
    """H of each row of a Normal or a Bernoulli, in nats, (B,).

    Raises:
        TypeError: for another law.
    """
    if isinstance(law, Bernoulli):
        return law.entropy()
    if isinstance(law, Normal):
        each = law._spread().log() + 0.5 * math.log(2 * math.pi * math.e)
        return each.expand_as(law.mean).flatten(1).sum(1)
    raise TypeError(f"the entropy is known of a Normal and a Bernoulli, got {type(law).__name__}.")


def trajectory_bound(
    denoiser: Denoiser, x0: Tensor, times: Sequence[float], noise: Noise, *, reverse: Reverse = known
) -> Trajectory:
    """K, with one draw of x_n for each step.

    Args:
        x0: (B, *event), model space.
        times: falling from 1 to t_1, the first noisy level: 0 is not among them.
        reverse: the law of a step.

    Raises:
        ValueError: for times that end at 0, where X_1 would have no entropy.
    """
    if times[-1] <= 0.0 or len(times) < 2:
        raise ValueError(f"K stops at the first noisy level: times fall to t_1 > 0, got {tuple(times)}.")
    process = denoiser.process
    steps = [kl_term(denoiser, x0, t, s, noise, reverse) for t, s in pairwise(times)]
    first, last = (entropy(process.marginal(x0, t)) for t in (times[-1], times[0]))
    return Trajectory(torch.stack(steps, 1), last, first, entropy(process.prior(x0)))


def kl_term(denoiser: Denoiser, x0: Tensor, t: Time, s: Time, noise: Noise, reverse: Reverse = known) -> Tensor:
    """KL(q(x_s | x_t, x_0) | p(x_s | x_t)) at one draw of x_t, (B,); any process whose laws have a KL."""
    process = denoiser.process
    xt = process.marginal(x0, t).sample(noise)
    return process.reverse(Estimate(x0), xt, t, s).kl(reverse(process, denoiser(xt, t), xt, t, s))


def bits_elbo(denoiser: Denoiser, x0: Tensor, times: Sequence[float], noise: Noise) -> Bound:
    """The bound on -log P(x_0) of bits with the learned last step, p(x_0 | x_1), as decoder: a true likelihood.

    Args:
        x0: bits, (B, *event).
        times: falling from 1 to 0.
    """
    process = denoiser.process
    assert isinstance(process, Binomial)
    steps = [kl_term(denoiser, x0, t, s, noise) for t, s in pairwise(times[:-1])]
    xt = process.marginal(x0, times[-2]).sample(noise)
    last = process.reverse(denoiser(xt, times[-2]), xt, times[-2], times[-1])
    prior = process.marginal(x0, times[0]).kl(process.prior(x0))
    return Bound(prior, torch.stack(steps, 1) if steps else x0.new_zeros(len(x0), 0), last.cross_entropy(x0))


def entropy_bounds(process: Process, x0: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
    """(lower, upper) of H_q(X_s | X_t) for a step t -> s, in nats, (B,):

    H(X_t | X_s) + H(X_s | X_0) - H(X_t | X_0) <= H(X_s | X_t) <= H(X_t | X_s). For normals these are the entropies of
    the variances btilde and beta. Source: Sohl-Dickstein et al. 2015 (1503.03585) eq. 27.
    """
    upper = entropy(process.forward(x0, s, t))
    return upper + entropy(process.marginal(x0, s)) - entropy(process.marginal(x0, t)), upper
