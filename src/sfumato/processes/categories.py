"""What every process on categories shares: a Markov chain over K states, at each position by itself.

With Q_{s|t} the (K, K) matrix of moves from time t to s, rows from states at t:

    q(x_s | x_t) = Cat(row x_t of Q_{s|t}),      q(x_t | x_0) = Cat(row x_0 of Q_{t|0}),
    q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0).

A subclass says how a law moves and how likely a state is under each earlier one; the rest follows by Bayes' rule.

Source: Austin et al. 2021 (2107.03006) eq. 2 to 4.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Categorical
from sfumato.processes.base import Process, Time, expand, ordered
from sfumato.processes.keeps import Keep


class Categories(Process):
    """States 0 .. classes-1, int64, (B, *event); laws are (B, *event, K).

    Two ways from an estimate p of x_0 to the law of x_s given x_t. The Bayes form is exact where p is p(x_0 | x_t):

        sum_k p_k q(x_s | x_t, x_0 = k)      ~  sum_k p_k / q(x_t | x_0 = k) q(x_s, x_t | x_0 = k).

    The published form is D3PM's, ~ sum_k p_k q(x_s, x_t | x_0 = k), and p itself where s = 0. The two are one where
    q(x_t | x_0) is the same for all x_0 that x_t allows, as with a mask that no datum holds. Elsewhere the best p of
    the published form is not p(x_0 | x_t), and an exact p gives reverse laws that are off (by 0.26 on a table of 4
    states).

    Attributes:
        classes: K.
        published: take the published form; a network must be sampled with the form that it was trained with.
    """

    classes: int
    published: bool

    @abstractmethod
    def moved(self, p: Tensor, t: Time, s: Time) -> Tensor:
        """p Q_{s|t}, (B, *event, K), for t <= s; p need not sum to one."""

    @abstractmethod
    def reach(self, xs: Tensor, t: Time, s: Time, like: Tensor) -> Tensor:
        """q(x_s | x_t = k) for each k, (B, *event, K), for t <= s, in the dtype of `like`."""

    @abstractmethod
    def rest(self, like: Tensor) -> Tensor:
        """The law of each position at t = 1, (K,)."""

    @property
    def mask(self) -> int | None:
        """The state that stands for an unknown position, or None where there is none."""
        return None

    def one_hot(self, x: Tensor) -> Tensor:
        """Certainty of x, (B, *event, K), in torch's default dtype."""
        return torch.nn.functional.one_hot(x, self.classes).to(torch.get_default_dtype())

    def marginal(self, x0: Tensor, t: Time) -> Categorical:
        return Categorical(self.moved(self.one_hot(x0), 0.0, t))

    def forward(self, xt: Tensor, t: Time, s: Time) -> Categorical:
        ordered(s, t, "forward goes towards noise")
        return Categorical(self.moved(self.one_hot(xt), t, s))

    def weights(self, p0: Tensor, xt: Tensor, t: Time) -> Tensor:
        """p_k / q(x_t | x_0 = k), (B, *event, K), 0 for the classes that x_t rules out; p itself if published."""
        if self.published:
            return p0
        whole = self.reach(xt, 0.0, t, p0)
        return torch.where(whole > 0, p0 / whole.clamp(min=torch.finfo(p0.dtype).tiny), 0.0)

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Categorical:
        """The law of x_s under class probabilities of x_0, in the Bayes or the published form.

        Raises:
            ValueError: if eta is not 1: there is no deterministic reverse law; if s > t anywhere.
        """
        if eta != 1.0:
            raise ValueError(f"a discrete process has its ancestral reverse law only (eta = 1), got eta = {eta}.")
        p0 = estimate.mean
        if isinstance(t, float) and s == t:
            return Categorical(self.one_hot(xt).to(p0))
        ordered(t, s, "reverse goes towards data")
        probs = self.reach(xt, s, t, p0) * self.moved(self.weights(p0, xt, t), 0.0, s)
        total = probs.sum(-1, keepdim=True)
        # A state that no class reaches with a float of probability says nothing: then the estimate stands.
        law = torch.where(total > 0, probs / total.clamp(min=torch.finfo(p0.dtype).tiny), p0)
        if self.published:
            law = torch.where(torch.as_tensor(expand(s, p0) == 0.0), p0, law)
        return Categorical(law)

    def prior(self, like: Tensor) -> Categorical:
        """`rest`, independently at each position."""
        probs = self.rest(torch.zeros((), device=like.device, dtype=torch.get_default_dtype()))
        return Categorical(probs.expand(*like.shape, self.classes))


class Jumping(Categories):
    """A process in continuous time: states jump from y to x at the rate beta(t) R[y, x], beta = -keep' / keep.

    The chain seen backwards jumps from x_t to y at the rate beta R[y, x_t] q(y | x_0) / q(x_t | x_0), in the mean over
    x_0 given x_t. `schedule` is keep(t), the share of states that have never been touched where R has the diagonal -1.

    Source: Campbell et al. 2022 (2205.14987) proposition 3; Shi et al. 2024 (2406.04329) section 2.
    """

    schedule: Keep

    @abstractmethod
    def pull(self, xt: Tensor, like: Tensor) -> Tensor:
        """R[y, x_t] for each y, (B, *event, K), 0 for y = x_t."""

    def keep(self, t: Time) -> Time:
        """Probability that a position has never been resampled."""
        return self.schedule(t)

    def backward(self, p0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Rates of the jumps from x_t to each y backwards in time, (B, *event, K), 0 for y = x_t.

        The Bayes form, whatever `published`. Times are tensors below 1.
        """
        whole = self.reach(xt, 0.0, t, p0)
        weight = torch.where(whole > 0, p0 / whole.clamp(min=torch.finfo(p0.dtype).tiny), 0.0)
        beta = expand(self.schedule.slope(t) / self.schedule(t), p0)
        return beta * self.pull(xt, p0) * self.moved(weight, 0.0, t)

    def _kept(self, early: Time, late: Time) -> Time:
        """Probability of no resampling between two times; 1 where they are one."""
        kept = self.keep(early)
        if isinstance(kept, Tensor) or isinstance(late, Tensor):
            return torch.where(torch.as_tensor(early == late), 1.0, self.keep(late) / kept)
        return 1.0 if early == late else self.keep(late) / kept
