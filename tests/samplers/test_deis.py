"""DEIS: exact where eps is a polynomial in its variable, its orders, its limits."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds_for_tests import ANCHOR, PROCESSES, SCALE, close, full_world, normal, tensor

from sfumato import GaussianWorld, Noise, grids, sample
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import EDM, Anchored, Cosine, LinearBeta, Rectified
from sfumato.samplers import DDIM, trajectory
from sfumato.samplers.deis import DEIS, in_time


class PolynomialEps(Denoiser):
    """eps = p(z) whatever x_t is, z = t or rho: d(x / alpha) = p d rho has a known solution."""

    def __init__(self, process: Any, coefficients: tuple[float, ...], in_rho: bool) -> None:
        super().__init__()
        self.process, self.coefficients, self.in_rho = process, coefficients, in_rho

    def rho(self, t: float) -> float:
        return math.exp(-0.5 * self.process.log_snr(t))

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        z = self.rho(t) if self.in_rho else t
        eps = sum(c * z**j for j, c in enumerate(self.coefficients))
        return Estimate((xt - self.process.sigma(t) * eps) / self.process.alpha(t))

    def rise(self, t: float, s: float) -> float:
        """integral_t^s p d rho, by parts and a fine midpoint rule in sqrt(tau)."""
        if self.in_rho:
            a, b = self.rho(t), self.rho(s)
            return sum(c * (b ** (j + 1) - a ** (j + 1)) / (j + 1) for j, c in enumerate(self.coefficients))
        u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
        root = math.sqrt(t) + u * (math.sqrt(s) - math.sqrt(t))
        tau, width = root**2, 2 * root * (math.sqrt(s) - math.sqrt(t)) / len(u)
        rho = torch.exp(-0.5 * self.process.log_snr(tau))
        slope = sum(j * c * tau ** (j - 1) for j, c in enumerate(self.coefficients) if j)
        ends = [sum(c * v**j for j, c in enumerate(self.coefficients)) for v in (t, s)]
        return ends[1] * self.rho(s) - ends[0] * self.rho(t) - float((slope * rho * width).sum())


@pytest.mark.parametrize("in_rho", [False, True])
@pytest.mark.parametrize("process", [LinearBeta(), Cosine(), Rectified()], ids=lambda p: type(p).__name__)
def test_polynomials_are_integrated_exactly_down_to_no_noise(process: Any, in_rho: bool) -> None:
    D = PolynomialEps(process, (0.3, -0.5, 0.8), in_rho)
    times = (0.9, 0.8, 0.73, 0.5, 0.2, 0.0)
    states = [step.x for step in trajectory(D, DEIS(2, in_rho), tensor(1.0).reshape(1, 1), times, Noise(0))]
    for i in range(2, 5):
        t, s = times[i], times[i + 1]
        expected = process.alpha(s) * (states[i] / process.alpha(t) + D.rise(t, s))
        close(states[i + 1], expected, 1e-8 if not in_rho else 1e-12)


def test_degree_nought_is_ddim() -> None:
    for name, process in PROCESSES.items():
        D, x = full_world().denoiser(process), normal(4, 3)
        times = (0.9, 0.5, 0.3, 0.3, 0.0)
        (
            close(
                sample(D, DEIS(0), x1=x, times=times, noise=Noise(0)),
                sample(D, DDIM(), x1=x, times=times, noise=Noise(0)),
                1e-10,
            ),
            name,
        )


def test_weights_without_curvature_are_those_of_adams() -> None:
    """EDM with rho = 1 has sigma linear in t: tAB is Adams-Bashforth in both variables."""
    process = EDM(0.1, 10.0, 1.0)
    third = [23 / 12, -16 / 12, 5 / 12]
    assert in_time(process, 0.4, (0.5, 0.6, 0.7)) == pytest.approx(third, rel=1e-12)
    for in_rho in (False, True):
        assert DEIS(2, in_rho)._weights(process, 0.4, (0.5, 0.6, 0.7)) == pytest.approx(third, rel=1e-9)


@pytest.mark.parametrize("in_rho", [False, True])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_order_with_a_full_history(degree: int, in_rho: bool) -> None:
    """A run begins with lower degrees; here the first calls lie on the exact flow before its start."""
    process, world, sampler = LinearBeta(), full_world(), DEIS(degree, in_rho)
    D, x = world.denoiser(process), normal(3, 3)
    exact, errors = world.flow(x, 0.8, 0.1, process), []
    for n in (40, 80):
        times = grids.uniform(n, start=0.8, end=0.1)
        before = [0.8 + (i + 1) * (times[0] - times[1]) for i in range(degree)]
        points = [(t, world.flow(x, 0.8, t, process)) for t in before]
        memory: Any = tuple((t, process.eps(y, D(y, t).mean, t)) for t, y in points)
        y = x
        for t, s in pairwise(times):
            y, memory = sampler.step(D, y, t, s, memory, Noise(0))
        errors.append(float((y - exact).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(degree + 1, abs=0.35)


@pytest.mark.parametrize("in_rho", [False, True])
def test_shift_and_scale_enter(in_rho: bool) -> None:
    """A shifted, scaled process is the plain one in other coordinates."""
    plain, moved = LinearBeta(), Anchored(LinearBeta(), ANCHOR, SCALE)
    world = full_world()
    there = GaussianWorld(
        ((world.mean - ANCHOR[0]) / SCALE[0]), world.covs[0] / (SCALE[0][:, None] * SCALE[0][None, :])
    )
    times, u = (0.9, 0.7, 0.4, 0.1), normal(2, 3)
    a = sample(there.denoiser(plain), DEIS(2, in_rho), x1=u, times=times, noise=Noise(0))
    x = plain.alpha(0.9) * ANCHOR + moved.shift(0.9, ANCHOR) + SCALE * u
    b = sample(world.denoiser(moved), DEIS(2, in_rho), x1=x, times=times, noise=Noise(0))
    close(b, plain.alpha(0.1) * ANCHOR + moved.shift(0.1, ANCHOR) + SCALE * a, 1e-9)


@pytest.mark.parametrize("in_rho", [False, True])
def test_a_start_without_signal_is_ddim_and_then_goes_on(in_rho: bool) -> None:
    process, world = Rectified(), full_world()
    D, x = world.denoiser(process), normal(2, 3)
    steps = list(trajectory(D, DEIS(2, in_rho), x, (1.0, 0.8, 0.6, 0.4), Noise(0)))
    close(steps[1].x, sample(D, DDIM(), x1=x, times=(1.0, 0.8), noise=Noise(0)))
    assert [time for time, _ in steps[-1].memory] == [0.6, 0.8]
    exact = world.flow(steps[1].x, 0.8, 0.4, process)
    assert float((steps[-1].x - exact).norm()) < float((sample(D, DDIM(), x1=x, times=(1.0, 0.8, 0.6, 0.4), noise=Noise(0)) - exact).norm())  # fmt: skip # noqa: E501


def test_degree_is_checked() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        DEIS(-1)


def test_power_grid() -> None:
    assert grids.power(4) == pytest.approx((1.0, 0.5625, 0.25, 0.0625, 0.0))
    times = grids.power(3, power=3.0, start=0.9, end=0.1)
    roots = [t ** (1 / 3) for t in times]
    assert (times[0], times[-1]) == (0.9, 0.1)
    assert roots[1] - roots[0] == pytest.approx(roots[2] - roots[1]) == pytest.approx(roots[3] - roots[2])
