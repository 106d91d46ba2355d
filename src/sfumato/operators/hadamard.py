"""Compressed sensing with Walsh-Hadamard rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from sfumato.noise import Noise
from sfumato.operators.base import Spectral, cast


@dataclass(frozen=True, eq=False)
class Hadamard(Spectral):
    """y = (P W x)[:m] for each channel: W the orthonormal Walsh-Hadamard transform of its n numbers, P an order.

    s = 1 on the m coefficients that are kept, so A^+ = A^T; y has the shape (B, C, m).

    Args:
        order: (n,), a permutation of 0 .. n - 1; its first m entries are the rows that are measured.
        m: how many numbers are measured for each channel.
        size: the shape of one channel, n numbers, n a power of two.

    Raises:
        ValueError: for another n, or an order or m that do not fit it.

    Source: DDRM (2201.11793), public code; DDNM (2212.00490).
    """

    order: Tensor
    m: int
    size: tuple[int, ...]
    s: Tensor = field(init=False)
    _place: Tensor = field(init=False)
    _factors: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        n = math.prod(self.size)
        if n < 1 or n & (n - 1):
            raise ValueError(
                f"Walsh-Hadamard rows exist for a power of two, got {self.size}, {n} numbers a channel: crop the data, "
                "or use BlockSensing."
            )
        if not 1 <= self.m <= n or not torch.equal(self.order.sort().values.cpu(), torch.arange(n)):
            raise ValueError(f"an order of 0 .. {n - 1} and 1 <= m <= {n} are needed, got m = {self.m}.")
        bits = n.bit_length() - 1
        s = (torch.arange(n) < self.m).double()
        for name, value in (
            ("s", s),
            ("_place", self.order.argsort()),
            ("_factors", (_sylvester(bits // 2), _sylvester(bits - bits // 2))),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def random(cls, size: tuple[int, ...], noise: Noise, *, ratio: float = 0.25) -> Hadamard:
        """The share `ratio` of the rows, in a random order, the same for each channel."""
        n = math.prod(size)
        return cls(noise.permutation(n), round(ratio * n), size)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (*y.shape[1:-1], *self.size)

    def Vt(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != tuple(self.size):
            raise ValueError(f"this operator was made for (B, C, *{self.size}), got {tuple(x.shape)}: make another.")
        return self._transform(x.flatten(2))[..., self.order.to(x.device)]

    def V(self, z: Tensor) -> Tensor:
        return self._transform(z[..., self._place.to(z.device)]).unflatten(-1, self.size)

    def Ut(self, y: Tensor) -> Tensor:
        return pad(y, [0, len(self.order) - self.m])

    def U(self, z: Tensor) -> Tensor:
        return z[..., : self.m]

    def _transform(self, x: Tensor) -> Tensor:
        """W x along the last axis. W of 2^(a + b) numbers is W_(2^a) x W_(2^b): two products instead of a large one."""
        a, b = (cast(factor, x) for factor in self._factors)
        return (a @ x.unflatten(-1, (len(a), len(b))) @ b).flatten(-2)


def _sylvester(bits: int) -> Tensor:
    """The orthonormal, symmetric Walsh-Hadamard matrix of 2^bits rows."""
    W = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(bits):
        W = torch.cat([torch.cat([W, W], 1), torch.cat([W, -W], 1)]) / math.sqrt(2)
    return W
