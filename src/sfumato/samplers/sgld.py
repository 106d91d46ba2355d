"""SGLD: Bayesian learning via stochastic gradient Langevin dynamics (Welling & Teh 2011)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.noise import Noise, Seeds
from sfumato.samplers.sde import simulate

EXAMPLE = """\
python -c 'import torch, sfumato as sf; data = sf.Noise(1).normal(torch.zeros(100)) + 2
S = sf.recipes.load("sgld").Recipe(steps=2000)
w = torch.stack([d.w for d in S.chain(lambda w: (data - w).sum(-1, keepdim=True) - w, torch.zeros(9, 1), sf.Noise(0))])
print(w[500:].mean(), w[500:].std())  # the posterior: about 2 and 0.1'"""

Score = Callable[[Tensor], Tensor]


class Draw(NamedTuple):
    """A state of the chain and the step that led to it, its weight in averages over the chain."""

    w: Tensor
    size: float


@dataclass(frozen=True)
class SGLD:
    """Langevin dynamics on a posterior whose gradient is taken on minibatches, with a step that decays to zero.

        w <- w + (e_k / 2) score(w) + sqrt(e_k) z,   e_k = a (b + k)^(-gamma),   k = 0, 1, ...

    The gradient's own noise is of order e_k and vanishes before the injected one, so nothing is accepted or rejected.
    The convention: drift e / 2, noise sqrt(e); `Langevin` writes the same moves with e / 2 in the place of e. With a
    fixed step (gamma = 0) and the exact gradient of N(m, s^2) it is AR(1) with factor 1 - e / (2 s^2) and settles at
    the variance s^2 / (1 - e / (4 s^2)); it diverges from e = 4 s^2 on.

    It has no denoiser and no grid: `chain(score, w, noise)` with any score, `minibatch` for one of data. Averages over
    the chain are weighted by the steps: `average`.

    Args:
        first, last: e_0 and e at the last step, which fix a and b; the paper's toy goes from 0.01 to 0.0001.
        decay: gamma, in (0.5, 1] for convergence; 0: `first` throughout.
        steps: moves; the paper's toy makes 10000 sweeps of 100 single points.

    Source: Welling & Teh 2011 eq. 4 and 6, sections 3 and 5.1.
    """

    first: float = 0.01
    last: float = 0.0001
    decay: float = 0.55
    steps: int = 1_000_000

    def __post_init__(self) -> None:
        if self.decay > 0.0 and not self.first > self.last > 0.0:
            raise ValueError(f"a decaying step needs first > last > 0, got {self.first} and {self.last}.")
        if self.decay < 0.0 or self.first <= 0.0 or self.steps < 2:
            raise ValueError(
                f"SGLD needs decay >= 0, first > 0 and steps >= 2, got {self.decay}, {self.first}, {self.steps}."
            )

    def sizes(self) -> tuple[float, ...]:
        """e_0 .. e_{steps - 1}, from `first` to `last`."""
        if self.decay == 0.0:
            return (self.first,) * self.steps
        # (b + K) / b = r, K = steps - 1, r = (first / last)^(1 / gamma): e_k = first (1 + k (r - 1) / K)^-gamma.
        growth = ((self.first / self.last) ** (1.0 / self.decay) - 1.0) / (self.steps - 1)
        return tuple(self.first * (1.0 + k * growth) ** -self.decay for k in range(self.steps))

    def chain(self, score: Score, w: Tensor, noise: Noise) -> Iterator[Draw]:
        """Yields each state after the start; rows of w (B, *event) are chains of their own."""
        sizes = self.sizes()
        # The moves are Euler steps of dw = score / 2 dt + dW.
        states = simulate(lambda w, t: 0.5 * score(w), lambda w, t: 1.0, w, (0.0, *accumulate(sizes)), noise)
        yield from map(Draw, states, sizes)


def average(draws: Iterator[Draw], function: Callable[[Tensor], Tensor], *, skip: int = 0) -> Tensor:
    """sum e_k f(w_k) / sum e_k over a chain, its first `skip` states left out. Source: Welling & Teh 2011 eq. 11."""
    total, weight = torch.zeros(()), 0.0
    for k, draw in enumerate(draws):
        if k >= skip:
            total, weight = total + draw.size * function(draw.w), weight + draw.size
    if weight == 0.0:
        raise ValueError(f"the chain is no longer than the {skip} states that are skipped.")
    return total / weight


def minibatch(
    log_prior: Callable[[Tensor], Tensor],
    log_likelihood: Callable[[Tensor, Tensor], Tensor],
    data: Tensor,
    batch: int,
    noise: Noise,
) -> Score:
    """The score w -> grad log p(w) + (M / n) sum_i grad log p(y_i | w) on n data drawn anew, without replacement.

    Its mean is the score of the posterior. Without M / n the posterior would be that of n data: too wide.

    Args:
        log_prior: (B, *event) to (B,).
        log_likelihood: rows of w (B, *event) and their data (B, n, *item), to the sum over the n, (B,).
        data: all M, (M, *item).
        batch: n.
        noise: what the data are drawn with, not the stream of the chain's own noise; `Seeds` draw for each row.

    Raises:
        ValueError: unless 1 <= batch <= M.
    """
    M = len(data)
    if not 1 <= batch <= M:
        raise ValueError(f"a minibatch of {M} data holds 1 to {M} of them, got {batch}.")

    def score(w: Tensor) -> Tensor:
        chosen = noise.permutation(M)[..., :batch]
        part = data[chosen] if isinstance(noise, Seeds) else data[chosen].expand(len(w), batch, *data.shape[1:])
        with torch.enable_grad():
            at = w.detach().requires_grad_()
            total = log_prior(at) + (M / batch) * log_likelihood(at, part)
            (gradient,) = torch.autograd.grad(total.sum(), at)
        return gradient

    return score


Recipe = SGLD
