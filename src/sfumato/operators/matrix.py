"""Any matrix as an operator, for small problems and tests."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfumato.operators.base import Spectral, cast


@dataclass(frozen=True, eq=False)
class Matrix(Spectral):
    """y = A x for a matrix A of shape (m, d); the event is (d,). Singular values below `threshold` count as 0."""

    A: Tensor
    threshold: float = 1e-10
    s: Tensor = field(init=False)
    _U: Tensor = field(init=False)
    _Vt: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if self.A.ndim != 2:
            raise ValueError(f"a matrix has shape (m, d), got {tuple(self.A.shape)}.")
        U, s, Vt = padded_svd(self.A, self.threshold)
        for name, value in (("s", s), ("_U", U * (s > 0)), ("_Vt", Vt)):
            object.__setattr__(self, name, value)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (self.A.shape[1],)

    def Vt(self, x: Tensor) -> Tensor:
        return x @ cast(self._Vt, x).T

    def V(self, z: Tensor) -> Tensor:
        return z @ cast(self._Vt, z)

    def Ut(self, y: Tensor) -> Tensor:
        return y @ cast(self._U, y)

    def U(self, z: Tensor) -> Tensor:
        return z @ cast(self._U, z).T


def padded_svd(A: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """(U (m, d), s (d,), V^T (d, d)) of a matrix (m, d), U and s padded with zeros; s below the threshold is 0."""
    m, d = A.shape
    U, s, Vt = torch.linalg.svd(A, full_matrices=True)
    k = min(m, d)
    columns, padded = A.new_zeros(m, d), A.new_zeros(d)
    columns[:, :k] = U[:, :k]
    padded[:k] = torch.where(s >= threshold, s, 0.0)
    return columns, padded, Vt
