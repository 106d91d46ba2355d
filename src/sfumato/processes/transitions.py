"""Any chain of N transition matrices over K categories, such as steps of a Gaussian on levels of brightness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sfumato.processes.base import Time
from sfumato.processes.categories import Categories
from sfumato.processes.neighbours import carried, columns


@dataclass(frozen=True, eq=False)
class Transitions(Categories):
    """q(x_n | x_{n-1}) = Cat(row x_{n-1} of Q_n), known at the times t = n / N; the limit is uniform.

    Twice N K^2 numbers are kept. Steps may be skipped where the time is one for the batch; times of each sample move by
    one step, or from t = 0.

    Args:
        matrices: Q_1 .. Q_N, (N, K, K), rows that sum to one.
        published: see `Categories`.

    Source: Austin et al. 2021 (2107.03006) eq. 2 and 3.
    """

    matrices: Tensor
    published: bool = False

    def __post_init__(self) -> None:
        Q = self.matrices
        if Q.ndim != 3 or Q.shape[1] != Q.shape[2] or bool((Q < 0).any()) or float((Q.sum(2) - 1).abs().max()) > 1e-5:
            raise ValueError(
                f"transition matrices are (N, K, K), not negative, rows summing to one; got {tuple(Q.shape)}."
            )

    @classmethod
    def gaussian(cls, classes: int, betas: Sequence[float], published: bool = False) -> Transitions:
        """Levels in their order: Q_ij ~ exp(-4 (i - j)^2 / ((K - 1)^2 beta)) for i != j, the diagonal takes the rest.

        Divided by the sum over all differences -(K - 1) .. K - 1, so Q is doubly stochastic: its limit is uniform. The
        public code has a factor 255 / (K - 1) in the distance, which is this formula for K = 256 only.

        Source: Austin et al. 2021 (2107.03006) eq. 8.
        """
        gap = torch.arange(-(classes - 1), classes, dtype=torch.float64)
        beta = torch.as_tensor(betas, dtype=torch.float64).unsqueeze(-1)
        share = torch.softmax(-4 * gap**2 / ((classes - 1) ** 2 * beta), -1)
        return cls._banded(classes, share[:, classes - 1 :], published)

    @classmethod
    def banded(cls, classes: int, betas: Sequence[float], bands: int, published: bool = False) -> Transitions:
        """beta / K to each of the levels at most `bands` away, the diagonal takes the rest.

        Source: Austin et al. 2021 (2107.03006) appendix A.2.3, public code.
        """
        beta = torch.as_tensor(betas, dtype=torch.float64).unsqueeze(-1)
        return cls._banded(classes, beta / classes * (torch.arange(classes) <= bands), published)

    @classmethod
    def _banded(cls, classes: int, share: Tensor, published: bool) -> Transitions:
        """From the probability of a move by d levels, one way, (N, K); share[:, 0] is not used."""
        place = torch.arange(classes)
        Q = share[:, (place[:, None] - place).abs()]
        Q.diagonal(dim1=1, dim2=2).zero_()
        Q.diagonal(dim1=1, dim2=2).copy_(1.0 - Q.sum(2))
        return cls(Q, published)

    @property
    def classes(self) -> int:  # type: ignore[override]
        return self.matrices.shape[1]

    @property
    def steps(self) -> int:
        """N."""
        return self.matrices.shape[0]

    def rest(self, like: Tensor) -> Tensor:
        return torch.full((self.classes,), 1.0 / self.classes, dtype=like.dtype, device=like.device)

    def matrix(self, t: Time, s: Time) -> Tensor:
        """Q_{s|t} = Q_{n+1} ... Q_m, n = N t, m = N s: (K, K), or (B, K, K) for times of each sample.

        Raises:
            ValueError: for times between the steps, or samples that skip some.
        """
        n, m = self._step(t), self._step(s)
        if isinstance(n, int) and isinstance(m, int):
            if n == 0:
                return self._products[m]
            between = torch.eye(self.classes, dtype=torch.float64)
            for i in range(n, m):
                between = between @ self.matrices[i].double()
            return between
        if isinstance(n, int) and n == 0:
            return self._products.to(s.device)[m]  # type: ignore[union-attr]
        n, m = (torch.as_tensor(v).cpu() for v in (n, m))
        if bool((m - n > 1).any()):
            raise ValueError("times of each sample move by one step of the chain: give one time for the batch to skip.")
        one = self.matrices[(m - 1).clamp(min=0)]
        return torch.where((m == n)[:, None, None], torch.eye(self.classes, dtype=one.dtype), one)

    def moved(self, p: Tensor, t: Time, s: Time) -> Tensor:
        return carried(p, self.matrix(t, s))

    def reach(self, xs: Tensor, t: Time, s: Time, like: Tensor) -> Tensor:
        return columns(self.matrix(t, s), xs, like)

    def _step(self, t: Time) -> int | Tensor:
        place = torch.as_tensor(t, dtype=torch.float64) * self.steps
        n = place.round()
        if bool(((place - n).abs() > 1e-4).any()):
            raise ValueError(f"this chain is known at t = n / {self.steps}, got t = {t}: take such times.")
        return n.long() if isinstance(t, Tensor) else int(n)

    @cached_property
    def _products(self) -> Tensor:
        """Q_{n|0}, n = 0 .. N, (N + 1, K, K), multiplied in float64."""
        found = [torch.eye(self.classes, dtype=torch.float64)]
        for Q in self.matrices:
            found.append(found[-1] @ Q.double())
        return torch.stack(found).to(self.matrices)
