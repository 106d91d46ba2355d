"""Categories that turn into their neighbours: a rate matrix on a graph, as for words near in meaning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sfumato.processes.base import Time
from sfumato.processes.categories import Jumping
from sfumato.processes.keeps import LINEAR, Keep


@dataclass(frozen=True, eq=False)
class Neighbours(Jumping):
    """Q_{s|t} = exp(a R), a = log(keep(t) / keep(s)), for a symmetric rate matrix R; the limit is uniform.

    With R = 11^T / K - I this is the uniform process.

    Args:
        rate: R, (K, K), symmetric, rows that sum to 0, nothing negative off the diagonal, one connected graph.
        schedule: keep(t) = exp(-a(t)).
        published: see `Categories`.

    Source: Austin et al. 2021 (2107.03006) appendix A.2.4 and A.4.
    """

    rate: Tensor
    schedule: Keep = LINEAR
    published: bool = False

    def __post_init__(self) -> None:
        R = self.rate
        square = R.ndim == 2 and R.shape[0] == R.shape[1]
        if (
            not square
            or not torch.allclose(R, R.T)
            or bool((self._off < 0).any())
            or float(R.sum(1).abs().max()) > 1e-6
        ):
            raise ValueError("a rate matrix is symmetric, not negative off its diagonal, and its rows sum to 0.")
        if int((self._eigen[0] == 0.0).sum()) != 1:
            raise ValueError("the graph falls into parts: raise k, so that every state is reached from every other.")

    @classmethod
    def of(cls, vectors: Tensor, k: int, schedule: Keep | None = None) -> Neighbours:
        """The process of the k nearest neighbours of each of K vectors, (K, d): R = (G + G^T) / 2k off the diagonal,
        G_ij = 1 where j is among the k nearest of i.
        """
        distance = torch.cdist(vectors.double(), vectors.double()).fill_diagonal_(torch.inf)
        G = torch.zeros_like(distance).scatter_(1, distance.argsort(1)[:, :k], 1.0)
        A = (G + G.T) / (2 * k)
        return cls(A - torch.diag(A.sum(1)), schedule or LINEAR)

    @property
    def classes(self) -> int:  # type: ignore[override]
        return self.rate.shape[0]

    def rest(self, like: Tensor) -> Tensor:
        return torch.full((self.classes,), 1.0 / self.classes, dtype=like.dtype, device=like.device)

    def matrix(self, kept: Time) -> Tensor:
        """exp(-log(kept) R): (K, K) for a float, (B, K, K) for (B,); float64."""
        w, U = self._eigen
        kept = torch.as_tensor(kept, dtype=torch.float64, device=U.device).unsqueeze(-1)
        return ((U * (kept ** (-w)).unsqueeze(-2)) @ U.T).clamp(min=0.0)

    def moved(self, p: Tensor, t: Time, s: Time) -> Tensor:
        return carried(p, self.matrix(self._kept(t, s)))

    def reach(self, xs: Tensor, t: Time, s: Time, like: Tensor) -> Tensor:
        return columns(self.matrix(self._kept(t, s)), xs, like)

    def pull(self, xt: Tensor, like: Tensor) -> Tensor:
        return columns(self._off, xt, like)

    @cached_property
    def _off(self) -> Tensor:
        """R without its diagonal."""
        return self.rate - torch.diag(self.rate.diagonal())

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        w, U = torch.linalg.eigh(self.rate.double())
        return torch.where(w > -1e-9, 0.0, w), U  # 0^0 = 1: the uniform law stays to the end


def carried(p: Tensor, Q: Tensor) -> Tensor:
    """p Q for laws (B, *event, K) and one matrix (K, K), or one a row (B, K, K)."""
    Q = Q.to(p)
    return p @ Q if Q.ndim == 2 else (p.flatten(1, -2) @ Q).reshape(p.shape)


def columns(Q: Tensor, x: Tensor, like: Tensor) -> Tensor:
    """Q[:, x], (B, *event, K), for one matrix (K, K), or one a row (B, K, K)."""
    Q = Q.to(like)
    if Q.ndim == 2:
        return Q.T[x]
    row = torch.arange(len(x), device=x.device).reshape(-1, *[1] * (x.ndim - 1))
    return Q.transpose(1, 2)[row, x]
