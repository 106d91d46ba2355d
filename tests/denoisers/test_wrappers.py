"""Small wrappers and the binding of conditions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from worlds_for_tests import ANCHOR, close, mixture_world, normal, tensor

from sfumato.denoisers import Clipped, Counted, Denoiser, Estimate, Given, MeanOnly, Recorded
from sfumato.processes import EDM, Anchored, LinearBeta, Process, Time, entry

X = normal(4, 3)
DENOISER = mixture_world().denoiser(LinearBeta())


class Listener(Denoiser):
    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process, self.weight = process, nn.Parameter(torch.ones(1))
        self.part = nn.Linear(2, 2)
        self.conds: list[Any] = []

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        self.conds.append(cond)
        assert t == 0.5
        return Estimate(xt * self.weight, xt**2, {"v": xt})


def test_clipped() -> None:
    inner = Listener(LinearBeta())
    x = tensor(-3.0, -0.5, 0.2, 1.5).reshape(1, 4)
    got = Clipped(inner)(x, 0.5)
    close(got.mean.detach(), tensor(-1.0, -0.5, 0.2, 1.0))
    close(got.var, x**2)
    assert got.aux["v"] is x
    close(Clipped(inner, 0.0, 0.3)(x, 0.5).mean.detach(), tensor(0.0, 0.0, 0.2, 0.3))


def test_counted_recorded_mean_only() -> None:
    counted, recorded = Counted(DENOISER), Recorded(DENOISER)
    want = DENOISER(X, 0.5)
    assert counted.calls == 0 and recorded.last is None
    for _ in range(3):
        close(counted(X, 0.5).mean, want.mean, 0.0)
    assert counted.calls == 3
    x = X.clone().requires_grad_()
    got = recorded(x, 0.5)
    assert got.mean.requires_grad and not recorded.last.mean.requires_grad
    close(recorded.last.mean, want.mean, 0.0)
    close(recorded.last.var.detach(), want.var, 0.0)
    only = MeanOnly(DENOISER)(X, 0.5)
    close(only.mean, want.mean, 0.0)
    assert only.var is None and only.aux is None
    assert only[1:] == (None, None)


def test_every_wrapper_hands_the_condition_on() -> None:
    for wrap in (Clipped, Counted, Recorded, MeanOnly):
        inner = Listener(LinearBeta())
        wrapped = wrap(inner)
        wrapped(X, 0.5, "class")
        wrapped.given("other")(X, 0.5)
        assert inner.conds == ["class", "other"] and wrapped.process is inner.process


def test_given_binds_once() -> None:
    inner = Listener(LinearBeta())
    given = inner.given("first")
    assert isinstance(given, Given) and given.inner is inner  # the process does not depend on it: no copy
    given(X, 0.5, "ignored")
    given.given("second")(X, 0.5)
    assert inner.conds == ["first", "first"]


def test_given_binds_the_process_through_wrappers() -> None:
    inner = Listener(Anchored(LinearBeta(), read=entry("image")))
    outer = Counted(Clipped(inner))
    given = outer.given({"image": ANCHOR})
    assert given.process.anchor is ANCHOR and inner.process.anchor is None and outer.process.anchor is None
    deep = given.inner.inner.inner
    assert deep is not inner and deep.weight is inner.weight and deep.process is given.process
    again = given.given({"image": 2 * ANCHOR})
    assert again.process.anchor is ANCHOR


def test_a_twin_shares_weights_and_leaves_the_original() -> None:
    inner = Listener(LinearBeta())
    twin = Counted(inner).with_process(EDM())
    assert isinstance(twin.process, EDM) and isinstance(inner.process, LinearBeta)
    assert twin.inner.weight is inner.weight and twin.inner.part is inner.part
    twin.inner.part = nn.Linear(3, 3)
    assert inner.part.in_features == 2
    assert set(dict(twin.named_parameters())) == {"inner." + k for k in dict(inner.named_parameters())}
