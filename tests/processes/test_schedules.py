"""The formulas of the schedules, and the numbers that their papers state."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from worlds_for_tests import close

from sfumato.processes import EDM, Cosine, Geometric, LinearBeta, Rectified, SigmoidBeta, SubVP
from sfumato.processes.schedules import Beta

TIMES = (0.0, 0.03, 0.4, 0.77, 1.0)


@pytest.mark.parametrize(
    "process",
    [LinearBeta(), LinearBeta(0.5, 7.0), SigmoidBeta(), SigmoidBeta(0.2, 9.0, 3.0), SubVP()],
    ids=lambda p: str(p),
)
def test_alpha_decays_by_the_integral_of_beta(process: Beta) -> None:
    for t in TIMES:
        whole = quad(process.beta, 0.0, t, epsabs=1e-13)[0]
        close(process.integral(t), whole, 1e-10)
        close(process.alpha(t), math.exp(-0.5 * whole), 1e-10)


@pytest.mark.parametrize("process", [LinearBeta(), SigmoidBeta(), Cosine()], ids=lambda p: type(p).__name__)
def test_variance_preserving(process: Beta) -> None:
    for t in TIMES:
        close(process.alpha(t) ** 2 + process.sigma(t) ** 2, 1.0)


def test_linear_beta_runs_between_its_ends() -> None:
    process = LinearBeta()  # Song et al. 2021, appendix C: beta from 0.1 to 20
    assert process.beta(0.0) == 0.1 and process.beta(1.0) == 20.0
    close(process.alpha(1.0), math.exp(-10.05 / 2))
    close(process.beta(0.5), 10.05)
    # The smallest levels keep their digits: sigma^2 = B to first order.
    close(process.sigma(1e-12) / math.sqrt(1e-13), 1.0, 1e-9)


def test_sigmoid_beta_is_symmetric_about_its_middle() -> None:
    process = SigmoidBeta()
    close(process.beta(0.5), 0.5 * (0.1 + 20.0))
    close(process.beta(0.2) + process.beta(0.8), 0.1 + 20.0)
    close(process.beta(1.0), 0.1 + 19.9 / (1 + math.exp(-6)))
    wide = SigmoidBeta(width=2000.0)  # a step: no overflow, half of the way at beta_max
    close(wide.integral(1.0), 0.5 * (0.1 + 20.0), 1e-9)


def test_sub_vp_has_the_square_of_the_vp_deviation() -> None:
    """Song et al. 2021, eq. 29: covariance (1 - e^-B)^2; bounded by the VP process everywhere."""
    vp, sub = LinearBeta(), SubVP()
    for t in TIMES:
        close(sub.sigma(t), vp.sigma(t) ** 2)
        close(sub.alpha(t), vp.alpha(t))


def test_cosine_is_the_squared_cosine_of_the_paper() -> None:
    """Nichol & Dhariwal 2021, eq. 17: abar = f(t) / f(0), f = cos^2((t + s) / (1 + s) pi / 2), s = 0.008."""
    process = Cosine()
    f = [math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0.0, 0.5)]
    close(process.alpha(0.5) ** 2, f[1] / f[0])
    assert process.alpha(1.0) < 1e-16 and process.alpha(0.0) == 1.0 and process.sigma(0.0) == 0.0
    # Keeps its digits near t = 0, where sigma^2 = 2 t tan(b) pi / 2 / 1.008 to first order.
    b = 0.008 / 1.008 * math.pi / 2
    close(process.sigma(1e-13) ** 2 / (2e-13 * math.tan(b) * math.pi / 2 / 1.008), 1.0, 1e-9)
    plain = Cosine(offset=0.0)
    close(plain.alpha(0.25), math.cos(math.pi / 8))
    close(plain.time_of(0.0), 0.5)


def test_geometric_has_equal_ratios() -> None:
    process = Geometric()  # the CIFAR-10 ends of Song et al. 2021, appendix C
    close(process.sigma(0.0), 0.01)
    close(process.sigma(1.0), 50.0)
    close(process.sigma(0.5), math.sqrt(0.01 * 50.0))
    close(process.sigma(0.3) ** 2, process.sigma(0.1) * process.sigma(0.5))


def test_edm_uniform_times_are_karras_grid() -> None:
    """The 18 values of Karras et al. 2022 for CIFAR-10, as the EDM card states them."""
    process = EDM()
    sigmas = [process.sigma(1 - i / 17) for i in range(18)]
    for i, value in {0: 80.0, 1: 57.586, 2: 40.786, 3: 28.375, 15: 0.0229, 16: 0.0075, 17: 0.002}.items():
        assert sigmas[i] == pytest.approx(value, abs=5e-4 if value > 1 else 5e-5)
    roots = [s ** (1 / 7) for s in sigmas]
    for i in range(1, 17):
        close(2 * roots[i], roots[i - 1] + roots[i + 1])
    linear = EDM(0.5, 2.5, rho=1.0)
    close([linear.sigma(t) for t in (0.0, 0.5, 1.0)][1], 1.5)


@pytest.mark.parametrize("process", [Geometric(), EDM()], ids=lambda p: type(p).__name__)
def test_variance_exploding_keeps_the_signal(process: Geometric) -> None:
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    assert process.alpha(0.3) == 1.0 and torch.equal(process.alpha(t), torch.ones_like(t))
    assert process.rates(0.3)[0] == 0.0 and torch.equal(process.rates(t)[0], torch.zeros_like(t))


def test_rectified_is_a_straight_line() -> None:
    """Flow matching: dx/dt = eps - x_0 at every t."""
    process = Rectified()
    x0, eps = torch.tensor([[2.0]]), torch.tensor([[-1.0]])
    for t in (0.25, 1.0):
        close(process.velocity(process.perturb(x0, t, eps), x0, t), eps - x0)
    assert process.rates(0.0) == (-1.0, 1.0)
    assert process.alpha(1.0) == 0.0 and process.sigma(0.0) == 0.0 and process.sigma(1.0) == 1.0
