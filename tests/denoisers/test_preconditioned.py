"""Parameterisations: each returns x_0 from the ideal output of its network, and meets its paper's definition."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import ANCHOR, PROCESSES, close, normal, tensor

from sfumato.denoisers import (
    Preconditioned,
    edm,
    log_snr,
    predict_eps,
    predict_flow,
    predict_score,
    predict_v,
    predict_x0,
)
from sfumato.processes import EDM, Anchored, Gaussian, LinearBeta, Rectified, Table, entry, expand

SCHEMES = {
    "eps": predict_eps,
    "score": predict_score,
    "x0": predict_x0,
    "v": predict_v,
    "flow": predict_flow,
    "edm": edm(),
    "edm2": edm(2.0),
}
X0, EPS = normal(4, 3, seed=1), normal(4, 3, seed=2)


class Told(nn.Module):
    """A network that answers with what it is told, and keeps what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, u: Tensor, level: Tensor, cond: Any) -> Tensor:
        self.asked = u, level, cond
        return self.answer


def ideal(name: str, alpha: Any, sigma: Any, x0: Tensor, eps: Tensor) -> Tensor:
    """What the network of each scheme is trained to say, from the papers' definitions."""
    n = (alpha**2 + sigma**2) ** 0.5
    if name == "eps":
        return eps
    if name == "score":
        return -eps
    if name == "x0":
        return x0
    if name == "v":
        return (alpha * eps - sigma * x0) / n
    if name == "flow":
        return eps - x0
    sd = 2.0 if name == "edm2" else 0.5
    s = sigma / alpha  # Karras et al. 2022, table 1, on x / alpha
    c_skip, c_out = sd**2 / (s**2 + sd**2), s * sd / (s**2 + sd**2) ** 0.5
    return (x0 - c_skip * (x0 + s * eps)) / c_out


@pytest.mark.parametrize("scheme", SCHEMES.keys())
@pytest.mark.parametrize("name", PROCESSES.keys())
def test_the_ideal_output_gives_x0(scheme: str, name: str) -> None:
    process = PROCESSES[name]
    for t in (0.05, 0.5, 0.9, tensor(0.1, 0.3, 0.6, 0.9)):
        alpha, sigma = (
            expand(v, X0) if isinstance(v, torch.Tensor) else v for v in (process.alpha(t), process.sigma(t))
        )
        xt = process.perturb(X0, t, EPS)
        net = Told(ideal(scheme, alpha, sigma, X0, EPS))
        close(Preconditioned(net, process, SCHEMES[scheme])(xt, t).mean, X0, 1e-11)


@pytest.mark.parametrize("scheme", ["x0", "v", "flow"])
@pytest.mark.parametrize("process", [Rectified(), Table.scaled_linear(50).zero_terminal()], ids=["Rectified", "Table"])
def test_without_signal_and_without_noise(scheme: str, process: Gaussian) -> None:
    """alpha(1) = 0 and sigma(0) = 0 are ordinary inputs, but for eps, which then says nothing of x_0."""
    for t in (0.0, 1.0):
        alpha, sigma = process.alpha(t), process.sigma(t)
        net = Told(ideal(scheme, alpha, sigma, X0, EPS))
        close(Preconditioned(net, process, SCHEMES[scheme])(process.perturb(X0, t, EPS), t).mean, X0)
    eps = Preconditioned(Told(EPS), process, predict_eps)
    close(eps(process.perturb(X0, 0.0, EPS), 0.0).mean, X0)
    with pytest.raises(ZeroDivisionError):
        eps(EPS, 1.0)


def test_karras_table() -> None:
    """Karras et al. 2022, table 1, at sigma = 2 and data of deviation 0.5; data of that deviation need no network."""
    c = edm()(1.0, 2.0)
    close(c.c_in, 1 / math.sqrt(4.25))
    close(c.c_skip, 0.25 / 4.25)
    close(c.c_out, 1.0 / math.sqrt(4.25))
    close(c.c_noise, math.log(2.0) / 4)
    scaled = edm()(0.3, 0.6)  # x / alpha at sigma / alpha = 2
    close(scaled.c_in * 0.3, c.c_in)
    close(scaled.c_skip * 0.3, c.c_skip)
    close(scaled.c_out, c.c_out)
    close(scaled.c_noise, c.c_noise)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 4.0])
def test_inputs_have_unit_variance(alpha: float, sigma: float) -> None:
    """For data of the stated deviation, 1 but for edm, c_in x_t has variance 1; for edm the target too."""
    for scheme in (predict_eps, predict_x0, predict_v, predict_flow):
        close(scheme(alpha, sigma).c_in ** 2 * (alpha**2 + sigma**2), 1.0)
    for sd in (0.5, 2.0):
        c = edm(sd)(alpha, sigma)
        close(c.c_in**2 * (alpha**2 * sd**2 + sigma**2), 1.0)
        # (x_0 - c_skip x_t) / c_out = ((1 - c_skip alpha) x_0 - c_skip sigma eps) / c_out
        close(((1 - c.c_skip * alpha) ** 2 * sd**2 + (c.c_skip * sigma) ** 2) / c.c_out**2, 1.0)


def test_the_clock_of_the_network() -> None:
    for scheme in (predict_eps, predict_x0, predict_v):
        close(scheme(0.8, 0.6).c_noise, 2 * math.log(0.8 / 0.6))
    close(predict_flow(0.7, 0.3).c_noise, 0.3)
    close(predict_flow(1.4, 0.6).c_noise, 0.3)
    assert log_snr(0.0, 1.0) == -40.0 and log_snr(1.0, 0.0) == 40.0 and log_snr(1.0, 1e-30) == 40.0
    assert log_snr(1e-30, 1.0) == -40.0
    close(log_snr(tensor(0.0, 1.0, 0.8, 1.0), tensor(1.0, 0.0, 0.6, 1e-30)), tensor(-40, 40, 2 * math.log(4 / 3), 40))
    close(log_snr(1.0, tensor(2.0)), -2 * math.log(2))


def test_what_the_network_is_asked() -> None:
    """c_in u, the level for each row, the condition as it is."""
    process, net = LinearBeta(), Told(torch.zeros(4, 3))
    xt, cond = normal(4, 3), object()
    Preconditioned(net, process)(xt, 0.4, cond)
    u, level, got = net.asked
    close(u, xt)  # VP: c_in = 1
    close(level, torch.full((4,), process.log_snr(0.4)), 1e-6)
    assert level.shape == (4,) and level.dtype == xt.dtype and got is cond
    t = tensor(0.1, 0.4, 0.6, 0.9)
    Preconditioned(net, process)(xt, t)
    close(net.asked[1], process.log_snr(t), 1e-10)
    Preconditioned(net, process, clock=lambda t: 1000 * t)(xt, 0.4)
    close(net.asked[1], torch.full((4,), 400.0))
    frames = Told(torch.zeros(2, 3, 5))
    t = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    Preconditioned(frames, process, clock=lambda t: 1000 * t)(normal(2, 3, 5), t)
    close(frames.asked[1], 1000 * t, 1e-6)
    Preconditioned(net, EDM(), edm())(xt, 0.4)
    close(net.asked[0], xt / math.sqrt(EDM().sigma(0.4) ** 2 + 0.25))


@pytest.mark.parametrize("t", [0.4, tensor(0.1, 0.4, 0.6, 0.9)], ids=["float", "tensor"])
def test_an_elementwise_scale_is_not_in_the_clock(t: Any) -> None:
    """One level for each row, whatever the scale of its elements."""
    plain, scaled = Told(X0), Told(X0)
    Preconditioned(plain, Rectified(), predict_flow)(X0, t)
    Preconditioned(scaled, PROCESSES["Anchored.scaled"], predict_flow)(X0, t)
    assert torch.equal(plain.asked[1], scaled.asked[1]) and plain.asked[1].shape == (4,)


def test_the_network_runs_in_its_own_dtype() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))

        def forward(self, u: Tensor, level: Tensor, cond: Any) -> Tensor:
            assert u.dtype == level.dtype == torch.bfloat16
            return u * self.weight

    for t in (0.4, tensor(0.1, 0.4, 0.6, 0.9)):
        assert Preconditioned(Half(), LinearBeta())(normal(4, 3), t).mean.dtype == torch.float64


def test_a_condition_binds_the_anchor_in_training_too() -> None:
    process = Anchored(LinearBeta(), read=entry("image"))
    net, xt = Told(normal(4, 3)), normal(4, 3, seed=3)
    denoiser = Preconditioned(net, process)
    bound = Preconditioned(net, Anchored(LinearBeta(), ANCHOR))(xt, 0.4).mean
    close(denoiser(xt, 0.4, {"image": ANCHOR}).mean, bound, 0.0)
    close(denoiser.given({"image": ANCHOR})(xt, 0.4).mean, bound, 0.0)
    close(net.asked[0], xt - (1 - LinearBeta().alpha(0.4)) * ANCHOR)
    # the twin shares the weights, and the original is as it was
    given = denoiser.given({"image": ANCHOR})
    assert given.inner.net is net and denoiser.process is process and given.process.anchor is ANCHOR
