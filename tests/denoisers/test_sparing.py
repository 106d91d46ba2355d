"""Parts of a batch give the same estimate and the same gradient, and keep nothing on the way."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from worlds_for_tests import close, normal

from sfumato.denoisers import Denoiser, Estimate, Sparing, Windowed
from sfumato.processes import LinearBeta
from sfumato.zoo.memory import Live


class Net(Denoiser):
    """Three convolutions wide enough that their activations are what memory is spent on; keeps what it was asked."""

    process = LinearBeta()

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = (1, width, width, 1)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.double()
        self.asked: list[tuple] = []

    def forward(self, xt, t, cond=None):
        self.asked.append((xt.shape, t, cond))
        x = xt
        for layer in self.layers:
            x = torch.tanh(layer(x))
        level = t.reshape(-1, 1, 1, 1) if isinstance(t, torch.Tensor) and t.ndim else t
        bias = 0.0 if cond is None else cond["bias"].reshape(-1, 1, 1, 1) * cond["all"]
        return Estimate(x * level + bias, x**2, {"head": 2 * x})


X = normal(5, 1, 6, 7)
COND = {"bias": normal(5, seed=4), "all": torch.tensor(2.0, dtype=torch.float64)}
TIME = torch.linspace(0.2, 0.9, 5, dtype=torch.float64)


@pytest.mark.parametrize("rows", [1, 2, 5, 9])
@pytest.mark.parametrize("t", [0.3, TIME])
@pytest.mark.parametrize("cond", [None, COND])
def test_the_same_estimate_and_gradient(rows, t, cond):
    inner, v = Net(), normal(5, 1, 6, 7, seed=3)
    results = []
    for denoiser in (inner, Sparing(inner, rows)):
        x = X.clone().requires_grad_()
        with torch.enable_grad():
            estimate = denoiser(x, t, cond)
        grads = [torch.autograd.grad(estimate.mean, x, v, retain_graph=k == 0)[0] for k in (0, 1)]
        results.append((estimate.mean, estimate.var, estimate.aux["head"], *grads))
    for a, b in zip(*results, strict=True):
        close(b.detach(), a.detach(), 1e-12)
    close(results[1][3], results[1][4])
    with torch.no_grad():
        close(Sparing(inner, rows)(X, t, cond).mean, results[0][0].detach())


def test_a_missing_variance_stays_missing():
    class Bare(Net):
        def forward(self, xt, t, cond=None):
            return Estimate(xt)

    got = Sparing(Bare())(X, 0.5)
    assert got.var is None and got.aux is None
    close(got.mean, X)


def test_parts_are_computed_again_only_where_a_gradient_is_taken():
    inner = Net()
    with torch.no_grad():
        Sparing(inner, 2)(X, 0.5)
    assert [shape[0] for shape, _, _ in inner.asked] == [2, 2, 1]
    inner.asked.clear()
    Sparing(inner, 2)(X, 0.5)  # gradients on, but not of x
    assert len(inner.asked) == 3
    inner.asked.clear()
    x = X.clone().requires_grad_()
    torch.autograd.grad(Sparing(inner, 2)(x, 0.5).mean.sum(), x)
    assert len(inner.asked) == 6


def peak(denoiser, x):
    x = x.clone().requires_grad_()
    with torch.enable_grad(), Live() as live:
        torch.autograd.grad(denoiser(x, 0.5).mean.sum(), x)
    return live.peak


def test_memory_of_a_gradient_is_that_of_one_part():
    inner = Net(16)
    one, many = normal(1, 1, 16, 16), normal(8, 1, 16, 16)
    whole, parts, single = peak(inner, many), peak(Sparing(inner), many), peak(inner, one)
    state = 8 * 8 * 256
    assert whole > 7 * single
    assert parts < single + 3 * state < 0.3 * whole
    assert peak(Sparing(inner, 4), many) > 2.5 * single


def test_windows_of_a_large_picture_cost_one_window():
    """16 windows: the same gradient, and the activations of one of them."""
    inner, x = Net(16), normal(1, 1, 52, 52)
    plain, sparing = Windowed(inner, 16, 4, batch=1), Windowed(Sparing(inner), 16, 4, batch=1)
    grads = []
    for denoiser in (plain, sparing):
        leaf = x.clone().requires_grad_()
        grads.append(torch.autograd.grad(denoiser(leaf, 0.5).mean.square().sum(), leaf)[0])
    close(grads[1], grads[0])
    one = peak(inner, normal(1, 1, 16, 16))
    assert peak(plain, x) > 9 * one
    assert peak(sparing, x) < one + 5 * 8 * 52 * 52


def test_rows_are_at_least_one():
    with pytest.raises(ValueError, match="at least 1 row at a time, got 0"):
        Sparing(Net(), 0)
