"""Discrete processes: each position keeps its category or is resampled.

q(x_t | x_0) = keep(t) [x_t = x_0] + (1 - keep(t)) rest(x_t), with `rest` uniform over the K categories, or all on one
absorbing state (the mask). Reverse laws follow from Bayes' rule and an estimate of the class probabilities of x_0:

    p(x_s | x_t) = sum_k p(x_0 = k | x_t) q(x_s | x_t, x_0 = k).

Source: Austin et al. 2021 (2107.03006) eq. 3 and 4, in continuous time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Categorical
from sfumato.processes.base import Coefficient, Process, Time, expand, ordered


@dataclass(frozen=True)
class Discrete(Process):
    """Categories 0 .. classes-1 that are kept with probability 1 - t and else resampled from `rest`.

    Args:
        classes: K, the number of categories, the absorbing one included.
        absorbing: the state that replaces a lost category, or None: uniform over all K.
    """

    classes: int
    absorbing: int | None = None

    def keep(self, t: Time) -> Coefficient:
        """Probability that a position still holds its first category."""
        return 1.0 - t

    def rest(self, like: Tensor) -> Tensor:
        """Law of a resampled position, (K,)."""
        if self.absorbing is None:
            return torch.full((self.classes,), 1.0 / self.classes, dtype=like.dtype, device=like.device)
        return torch.nn.functional.one_hot(torch.tensor(self.absorbing), self.classes).to(like)

    def marginal(self, x0: Tensor, t: Time) -> Categorical:
        return self._move(self._one_hot(x0), self.keep(t))

    def forward(self, xt: Tensor, t: Time, s: Time) -> Categorical:
        if isinstance(t, float) and s == t:
            return Categorical(self._one_hot(xt))
        ordered(s, t, "forward goes towards noise")
        return self._move(self._one_hot(xt), self._kept(t, s))

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Categorical:
        """sum_k p_k q(x_s | x_t, x_0 = k); the classes k that x_t rules out carry no weight.

        Raises:
            ValueError: if eta is not 1: there is no deterministic reverse law; if s > t anywhere.
        """
        if eta != 1.0:
            raise ValueError(f"a discrete process has its ancestral reverse law only (eta = 1), got eta = {eta}.")
        if isinstance(t, float) and s == t:
            return Categorical(self._one_hot(xt).to(estimate.mean))
        ordered(t, s, "reverse goes towards data")
        p0 = estimate.mean
        rest = self.rest(p0)
        kept = expand(self._kept(s, t), p0)
        # Likelihood of x_t under each x_s, (B, *event, K): kept [x_s = x_t] + (1 - kept) rest(x_t).
        reach = kept * self._one_hot(xt).to(p0) + (1 - kept) * rest[xt].unsqueeze(-1)
        keep_s, keep_t = expand(self.keep(s), p0), expand(self.keep(t), p0)
        # q(x_t | x_0 = k), the normaliser of each bridge.
        whole = keep_t * self._one_hot(xt).to(p0) + (1 - keep_t) * rest[xt].unsqueeze(-1)
        weight = torch.where(whole > 0, p0 / whole.clamp(min=torch.finfo(p0.dtype).tiny), 0.0)
        # sum_k weight_k q(x_s | x_0 = k), times reach(x_s).
        probs = reach * (keep_s * weight + (1 - keep_s) * rest * weight.sum(-1, keepdim=True))
        return Categorical(probs / probs.sum(-1, keepdim=True))

    def prior(self, like: Tensor) -> Categorical:
        """`rest`, independently at each position."""
        probs = self.rest(torch.zeros((), device=like.device, dtype=torch.get_default_dtype()))
        return Categorical(probs.expand(*like.shape, self.classes))

    def _one_hot(self, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(x, self.classes).to(torch.get_default_dtype())

    def _move(self, p: Tensor, keep: Time) -> Categorical:
        keep = expand(keep, p)
        return Categorical(keep * p + (1 - keep) * self.rest(p))

    def _kept(self, early: Time, late: Time) -> Coefficient:
        """Probability of no resampling between two times; 1 where they are one."""
        kept = self.keep(early)
        if isinstance(kept, Tensor) or isinstance(late, Tensor):
            return torch.where(torch.as_tensor(early == late), 1.0, self.keep(late) / kept)
        return self.keep(late) / kept
