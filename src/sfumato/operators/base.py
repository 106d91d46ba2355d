"""Degradations: y = A x_0 + n. A ladder of three types: Operator, Linear, Spectral.

A solver asks for the least it needs: DPS an `Operator`, DDNM a `Linear`, DDRM a `Spectral`. Operators are frozen: a new
mask is a new operator. Inner products are the real ones; a complex operator documents its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Operator(ABC):
    """Any differentiable map from data (B, *event) to measurements (B, *measured)."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A x, without noise."""

    @abstractmethod
    def event(self, y: Tensor) -> tuple[int, ...]:
        """Shape of one x_0 for measurements shaped as `y`, (B, *measured)."""

    def of_rows(self, index: Sequence[int], y: Tensor) -> Operator:
        """The operator of these rows of the measurements y: itself, unless each row has its own (a mask, a kernel)."""
        return self

    def at(self, parameters: Any) -> Operator:
        """The operator with other parameters: what blind solvers move along, their current value in `memory`."""
        raise TypeError(f"{type(self).__name__} has no parameters to estimate.")

    @property
    def parameters(self) -> Any:
        """The parameters it has now, where a blind solver starts: at(parameters) is the operator itself."""
        return self.at(None)


class Linear(Operator):
    """A linear map. Adjoint by automatic differentiation, pseudo-inverse and `solve` by conjugate gradients, unless
    overridden by closed forms."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, (B, *event): <A x, y> = <x, A^T y>."""
        with torch.enable_grad():
            # data are real where measurements are complex: A^T is then Re(A^H)
            real = y.dtype.to_real()
            x = torch.zeros(y.shape[0], *self.event(y), dtype=real, device=y.device, requires_grad=True)
            (grad,) = torch.autograd.grad(self(x), x, y)
        return grad

    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y: the least-squares solution of smallest norm, (B, *event)."""
        return conjugate_gradients(lambda x: self.adjoint(self(x)), self.adjoint(y), steps=200)

    def solve(self, b: Tensor, rho: float) -> Tensor:
        """(A^T A + rho I)^{-1} b, rho > 0: the one primitive of proximal methods, (B, *event)."""
        return conjugate_gradients(lambda x: self.adjoint(self(x)) + rho * x, b, steps=200)

    def ridge(self, y: Tensor, rho: float) -> Tensor:
        """A^T (A A^T + rho I)^{-1} y = (A^T A + rho I)^{-1} A^T y: the pseudo-inverse held back by rho >= 0."""
        return self.solve(self.adjoint(y), rho) if rho > 0.0 else self.pinv(y)

    def project(self, x: Tensor) -> Tensor:
        """A^+ A x: the part of x that the measurement sees."""
        return self.pinv(self(x))


class Spectral(Linear):
    """A = U S V^T with no matrix stored, so that adjoint, pseudo-inverse and `solve` are closed forms.

    Coefficients V^T x have the shape (B, *coefficients) and may be complex (a Fourier basis); `s` broadcasts to them,
    is real, at least 0, and is 0 where A sees nothing. V is unitary on coefficients of data. A complex coefficient may
    stand for two directions (`Blur`).

    Attributes:
        s: singular values, padded with zeros to the size of V^T x.
    """

    s: Tensor

    @abstractmethod
    def Vt(self, x: Tensor) -> Tensor:
        """Coefficients of data."""

    @abstractmethod
    def V(self, z: Tensor) -> Tensor:
        """Data from coefficients."""

    @abstractmethod
    def Ut(self, y: Tensor) -> Tensor:
        """Coefficients of measurements, zero where s = 0."""

    @abstractmethod
    def U(self, z: Tensor) -> Tensor:
        """Measurements from coefficients; those where s = 0 do not matter."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.U(self._s(x) * self.Vt(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.V(self._s(y) * self.Ut(y))

    def pinv(self, y: Tensor) -> Tensor:
        return self.ridge(y, 0.0)

    def solve(self, b: Tensor, rho: float) -> Tensor:
        return self.V(self.Vt(b) / (self._s(b) ** 2 + rho))

    def ridge(self, y: Tensor, rho: float) -> Tensor:
        # Not through `solve`: a small rho would magnify the rounding of A^T y in directions that A does not see.
        s = self._s(y)
        return self.V(torch.where(s > 0, s / (s**2 + rho), 0.0) * self.Ut(y))

    def project(self, x: Tensor) -> Tensor:
        s = self._s(x)
        return self.V((s > 0).to(s.dtype) * self.Vt(x))

    def _s(self, like: Tensor) -> Tensor:
        """s on the device and in the real dtype of `like`."""
        return cast(self.s, like)


@dataclass(frozen=True, eq=False)
class Function(Operator):
    """A user's own differentiable map.

    Args:
        function: (B, *event) to (B, *measured).
        shape: the event, the shape of one x_0.
    """

    function: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(self.shape)


@dataclass(frozen=True, eq=False)
class LinearFunction(Function, Linear):
    """A user's own linear map: adjoint by automatic differentiation, pseudo-inverse and `solve` by conjugate gradients.

    Raises:
        ValueError: if the function is not linear on random numbers (relative error above 1e-3).
    """

    def __post_init__(self) -> None:
        from sfumato.noise import Noise

        noise, like = Noise(0), torch.zeros(1, *self.shape)
        try:
            self(like)
        except RuntimeError:  # numbers of its own in double precision
            self(like.double())
            like = like.double()
        a, b = noise.normal(like), noise.normal(like)
        # factors that do not sum to 1: an affine map would pass with those
        whole, parts = self(2 * a - 3 * b), 2 * self(a) - 3 * self(b)
        error = float((whole - parts).norm() / parts.norm().clamp(min=1e-12))
        if error > 1e-3:
            raise ValueError(f"not a linear function (relative error {error:.2g}): use Function, with DPS.")


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], b: Tensor, *, steps: int, tolerance: float | None = None, x: Tensor | None = None
) -> Tensor:
    """The solution of apply(x) = b for a symmetric positive map, row by row; started at 0 unless `x` is given.

    A row stops where its residual has fallen by `tolerance` (ten times the rounding of its dtype by default) or where
    it meets negative curvature, so that a map which is not quite positive does no harm.
    """
    x, r = (torch.zeros_like(b), b) if x is None else (x, b - apply(x))
    return krylov(lambda p: (apply(p), p), b, r, x, steps=steps, tolerance=tolerance)


def krylov(
    apply: Callable[[Tensor], tuple[Tensor, Tensor]],
    b: Tensor,
    r: Tensor,
    x: Tensor | float,
    *,
    steps: int,
    tolerance: float | None = None,
) -> Tensor:
    """x + L (the solution of M z = r) by conjugate gradients, for apply(p) = (M p, L p), of which p is a direction.

    What the map makes on its way is so kept: of M = A C A^T + sigma^2 and L = C A^T each product with C serves both.

    Args:
        b: what the residual r is compared with; rows stop as in `conjugate_gradients`.
    """
    small = 10 * torch.finfo(b.dtype).eps if tolerance is None else tolerance
    p, rr = r, _dot(r, r)
    goal = small**2 * _dot(b, b)
    for _ in range(steps):
        Mp, Lp = apply(p)
        curvature = _dot(p, Mp)
        alive = (rr > goal) & (curvature > 0)
        if not bool(alive.any()):
            break
        a = torch.where(alive, rr / torch.where(alive, curvature, 1.0), 0.0)
        x, r = x + a.reshape(-1, *[1] * (Lp.ndim - 1)) * Lp, r - a * Mp
        rr_next = _dot(r, r)
        p = torch.where(alive, r + torch.where(alive, rr_next / torch.where(alive, rr, 1.0), 0.0) * p, p)
        rr = torch.where(alive, rr_next, rr)
    return x if isinstance(x, Tensor) else torch.zeros_like(Lp)


def own(values: Tensor, index: Sequence[int], y: Tensor) -> Tensor:
    """These rows of `values` where they hold one for each row of y; all of them where they serve every row."""
    return values[list(index)] if values.ndim == y.ndim and len(values) == len(y) > 1 else values


def cast(values: Tensor, like: Tensor) -> Tensor:
    """`values` on the device and in the precision of `like`; real stays real and complex stays complex."""
    dtype = like.dtype.to_complex() if values.is_complex() else like.dtype.to_real()
    return values.to(device=like.device, dtype=dtype)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row, shaped to multiply it."""
    return (a.conj() * b).real.flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))
