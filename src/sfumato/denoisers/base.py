"""Denoisers: (x_t, t, cond) to an Estimate of x_0. Everything else is a wrapper around one of them."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, TypeVar

from torch import Tensor, nn

from sfumato.estimate import Estimate
from sfumato.processes import Process, Time

Self = TypeVar("Self", bound="Denoiser")


class Denoiser(nn.Module):
    """E[x_0 | x_t, cond], and the variance where it is known, in model space.

    Attributes:
        process: the forward process whose states it denoises.
    """

    process: Process

    @abstractmethod
    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        """The estimate of x_0: x_t is (B, *event); t a float, or (B,), or one time per frame (B, F)."""

    def given(self, cond: Any) -> Denoiser:
        """This denoiser with its condition bound: to the network, and to the process if the condition enters it."""
        return Given(self, self.prepare(cond))

    def prepare(self, cond: Any) -> Any:
        """The condition with what is computed from it once for a whole draw; as it is, unless a part computes some."""
        return cond

    def bind(self: Self, cond: Any) -> Self:
        """This denoiser on its process with `cond` bound; itself where the condition does not enter the process."""
        process = self.process.bind(cond)
        return self if process is self.process else self.with_process(process)

    def with_process(self: Self, process: Process) -> Self:
        """A copy that shares every weight and runs on another process."""
        twin = _twin(self)
        twin.process = process
        return twin


class Wrapper(Denoiser):
    """A denoiser made of another one, `inner`, whose process it shares."""

    inner: Denoiser

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner = inner

    @property
    def process(self) -> Process:  # type: ignore[override]
        return self.inner.process

    def with_process(self: Self, process: Process) -> Self:
        twin = _twin(self)
        twin.inner = self.inner.with_process(process)  # type: ignore[union-attr, operator]
        return twin

    def prepare(self, cond: Any) -> Any:
        return self.inner.prepare(cond)

    def bind(self: Self, cond: Any) -> Self:
        inner: Denoiser = self.inner.bind(cond)  # type: ignore[union-attr, operator, assignment]
        if inner is self.inner:
            return self
        twin = _twin(self)
        twin.inner = inner  # type: ignore[assignment]
        return twin


class Given(Wrapper):
    """`inner` with a condition bound; another condition given later is ignored."""

    def __init__(self, inner: Denoiser, cond: Any) -> None:
        super().__init__(inner.bind(cond))
        self.cond = cond

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.inner(xt, t, self.cond)

    def prepare(self, cond: Any) -> Any:
        return cond


def _twin(module: Self) -> Self:
    """A shallow copy whose own submodules can be replaced without touching the original."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    return twin
