"""One operator after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato.operators.base import Linear, Operator


@dataclass(frozen=True, eq=False)
class Compose(Operator):
    """y = outer(inner(x)). A `Linear` if both are, any other operator else.

    A^T = inner^T outer^T. The pseudo-inverse and `solve` are found by conjugate gradients, never as the product of the
    two pseudo-inverses, which is in general not the pseudo-inverse: a block of pixels that is partly masked breaks it.

    Args:
        outer: applied last; its kind of measurement is y.
        inner: applied first.
    """

    outer: Operator
    inner: Operator

    def __new__(cls, outer: Operator, inner: Operator) -> Compose:
        linear = isinstance(outer, Linear) and isinstance(inner, Linear)
        return object.__new__(LinearCompose if linear else Compose)

    def __call__(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def event(self, y: Tensor) -> tuple[int, ...]:
        return self.inner.event(self._middle(y))

    def of_rows(self, index: Sequence[int], y: Tensor) -> Compose:
        return Compose(self.outer.of_rows(index, y), self.inner.of_rows(index, self._middle(y)))

    @property
    def parameters(self) -> Any:
        """Those of the outer operator: what comes before it is known."""
        return self.outer.parameters

    def at(self, parameters: Any) -> Compose:
        """The outer operator with other parameters, after the same inner one."""
        return Compose(self.outer.at(parameters), self.inner)

    @property
    def seen(self) -> Callable[[Tensor], Tensor] | None:
        """What a mask that comes last leaves empty: noise stays zero there."""
        found: Any = getattr(self.outer, "seen", None)
        return found

    def _middle(self, y: Tensor) -> Tensor:
        """A stand-in for what lies between the two, of its shape."""
        return y.new_empty(()).expand(y.shape[0], *self.outer.event(y))


class LinearCompose(Compose, Linear):
    """The composition of two linear operators: made by `Compose`."""

    outer: Linear
    inner: Linear

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))
