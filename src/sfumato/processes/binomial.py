"""The binomial process: bits that are kept or drawn anew, as signs.

A bit is -1 or 1, the model space of black-and-white pictures, so that its law is its mean m, p(1) = (1 + m) / 2:

    E[x_t | x_0] = keep(t) x_0,    E[x_s | x_t] = keep(s) / keep(t) x_t,    keep(t) = 1 - t.

At t = n / N this is the chain q(x_n = 1 | x_{n-1}) = x_{n-1} (1 - beta_n) + 0.5 beta_n of bits 0 and 1 with
beta_n = 1 / (N - n + 1): each step erases the N-th part of the signal, and nothing is left at n = N.

Source: Sohl-Dickstein et al. 2015 (1503.03585) section 2.4.1, table App.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Law, _rows
from sfumato.noise import Noise
from sfumato.processes.base import Coefficient, Process, Time, expand, ordered


@dataclass(frozen=True, slots=True)
class Bernoulli(Law):
    """Independent bits -1 and 1 with these means, in [-1, 1]: p(1) = (1 + mean) / 2."""

    mean: Tensor  # type: ignore[assignment]

    def sample(self, noise: Noise) -> Tensor:
        return torch.where(2.0 * noise.uniform(self.mean) < 1.0 + self.mean, 1.0, -1.0).to(self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        return _rows(torch.log(0.5 * (1.0 + x * self.mean)), x)

    def kl(self, other: Law) -> Tensor:
        if not isinstance(other, Bernoulli):
            raise TypeError(f"the KL of a Bernoulli is known to a Bernoulli only, got {type(other).__name__}.")
        return other.cross_entropy(self.mean) - self.entropy()

    def entropy(self) -> Tensor:
        """Of each row, in nats, (B,)."""
        return self.cross_entropy(self.mean)

    def cross_entropy(self, mean: Tensor) -> Tensor:
        """-E log p(x) of bits x with these means, (B,); that of the bits themselves for means of -1 and 1."""
        up, down = 0.5 * (1.0 + mean), 0.5 * (1.0 - mean)
        terms = torch.xlogy(up, 0.5 * (1.0 + self.mean)) + torch.xlogy(down, 0.5 * (1.0 - self.mean))
        return -_rows(terms, terms)

    def times(self, other: Bernoulli) -> Bernoulli:
        """The normalised product of the two laws: (m + m') / (1 + m m').

        Raises:
            ValueError: where both are certain of opposite bits.
        """
        both = 1.0 + self.mean * other.mean
        if bool((both == 0.0).any()):
            raise ValueError("two laws that are certain of opposite bits have no product.")
        return Bernoulli((self.mean + other.mean) / both)


@dataclass(frozen=True)
class Binomial(Process):
    """Bits -1 and 1 that are kept with probability 1 - t and else tossed anew.

    `marginal` takes means too: a grey level in [-1, 1] is the law of a bit.
    """

    def keep(self, t: Time) -> Coefficient:
        """Probability that a bit has not been tossed: the factor of its mean."""
        return 1.0 - t

    def marginal(self, x0: Tensor, t: Time) -> Bernoulli:
        return Bernoulli(x0 * expand(self.keep(t), x0))

    def forward(self, xt: Tensor, t: Time, s: Time) -> Bernoulli:
        ordered(s, t, "forward goes towards noise")
        return Bernoulli(xt * expand(self._kept(t, s), xt))

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Bernoulli:
        """The bridge q(x_s | x_t, x_0) averaged over x_0, whose mean given x_t is that of the estimate.

        The bridge is q(x_s | x_0) q(x_t | x_s), normalised: of mean (k_s x_0 + r x_t) / (1 + k_t x_0 x_t), k = keep and
        r = k_t / k_s. Bits have x_0^2 = x_t^2 = 1, which makes it linear in x_0:

            mean = (k_s (1 - r^2) D + r (1 - k_s^2) x_t) / (1 - k_t^2).

        Raises:
            ValueError: if eta is not 1: there is no deterministic reverse law; if s > t anywhere.
        """
        if eta != 1.0:
            raise ValueError(f"bits have their ancestral reverse law only (eta = 1), got eta = {eta}.")
        ordered(t, s, "reverse goes towards data")
        D = estimate.mean
        k_s, k_t, r = (expand(k, D) for k in (self.keep(s), self.keep(t), self._kept(s, t)))
        spread = torch.as_tensor(1.0 - k_t**2, dtype=D.dtype, device=D.device)
        same = torch.eq(spread, 0.0)  # s = t = 0: nothing to undo
        spread = torch.where(same, 1.0, spread)
        mean = (k_s * (1.0 - r**2) * D + r * (1.0 - k_s**2) * xt) / spread
        return Bernoulli(torch.where(same, xt, mean).clamp(-1.0, 1.0))

    def prior(self, like: Tensor) -> Bernoulli:
        """Fair bits."""
        return Bernoulli(torch.zeros_like(like))

    def _kept(self, early: Time, late: Time) -> Coefficient:
        """Probability of no toss between two times; 1 where they are one."""
        if isinstance(early, Tensor) or isinstance(late, Tensor):
            first, last = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=torch.float64) for v in (early, late)))
            same = first == last
            return torch.where(same, 1.0, self.keep(last) / torch.where(same, 1.0, self.keep(first)))
        return 1.0 if early == late else self.keep(late) / self.keep(early)
