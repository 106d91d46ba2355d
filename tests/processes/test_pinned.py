"""Processes with a known end, against the conditional law of three joint normals."""

import math

import pytest
import torch
from worlds_for_tests import close, tensor

from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Anchored, Brownian, Gaussian, LinearBeta, Pinned, Rectified, Tent

END = tensor(0.7, -1.1).reshape(1, 2)
X0 = tensor(-0.4, 2.0).reshape(1, 2)
INNER: dict[str, Gaussian] = {"Brownian": Brownian(1.3), "Tent": Tent(), "LinearBeta": LinearBeta(0.1, 3.0)}


@pytest.fixture(params=INNER)
def inner(request: pytest.FixtureRequest) -> Gaussian:
    return INNER[request.param]


def conditioned(inner: Gaussian, t: float) -> tuple[torch.Tensor, float]:
    """Mean and variance of x_t given x_0 and x_1, by conditioning the joint normal of (x_t, x_1) given x_0."""
    (at, st), (a1, s1) = ((inner.alpha(u), inner.sigma(u)) for u in (t, 1.0))
    r = a1 / at
    gain = r * st**2 / s1**2
    return at * X0 + gain * (END - a1 * X0), st**2 - gain * r * st**2


def test_marginal_is_the_inner_process_conditioned_on_its_end(inner: Gaussian) -> None:
    process = Pinned(inner, END)
    for t in (1e-4, 0.2, 0.5, 0.9):
        mean, var = conditioned(inner, t)
        law = process.marginal(X0, t)
        close(law.mean, mean, 1e-12)
        assert law.std == pytest.approx(math.sqrt(var), rel=1e-9)
        both = process.marginal(X0, torch.tensor([t], dtype=torch.float64))
        close(both.mean, mean, 1e-12)
        close(both.std, math.sqrt(var) * torch.ones(1, 1).double(), 1e-9)


def test_brownian_bridge_in_closed_form() -> None:
    law = Pinned(Brownian(2.0), END).marginal(X0, 0.25)
    close(law.mean, 0.75 * X0 + 0.25 * END, 1e-14)
    assert law.std == pytest.approx(2.0 * math.sqrt(0.25 * 0.75))


def test_ends(inner: Gaussian) -> None:
    process = Pinned(inner, END)
    assert process.alpha(1.0) == pytest.approx(0.0, abs=1e-12) and process.sigma(1.0) == pytest.approx(0.0, abs=1e-7)
    prior = process.prior(X0.expand(3, 2))
    close(prior.mean, END.expand(3, 2), 1e-14)
    assert prior.std == 0.0
    close(process.marginal(X0, 1.0).mean, END, 1e-12)
    assert process.log_snr(1.0) == -math.inf and process.log_snr(0.0) == pytest.approx(inner.log_snr(0.0))


def test_snr_is_the_inner_one_less_that_at_the_end(inner: Gaussian) -> None:
    process = Pinned(inner, END)
    for t in (0.05, 0.5, 0.95):
        snr = (inner.alpha(t) / inner.sigma(t)) ** 2 - (inner.alpha(1.0) / inner.sigma(1.0)) ** 2
        assert process.log_snr(t) == pytest.approx(math.log(snr))
        assert process.log_snr(t) == pytest.approx(2 * math.log(process.alpha(t) / process.sigma(t)))
        assert process.time_of(process.log_snr(t)) == pytest.approx(t, abs=1e-9)
        time = torch.tensor([t], dtype=torch.float64)
        close(process.time_of(process.log_snr(time)), time, 1e-9)
    assert process.time_of(-200.0) == pytest.approx(1.0)


def test_the_way_back_has_forgotten_the_end(inner: Gaussian) -> None:
    """reverse with eta = 1 is that of the inner process, and given the whole truth it keeps the marginal."""
    process, estimate = Pinned(inner, END), Estimate(X0)
    xt = process.marginal(X0, 0.8).sample(Noise(0))
    ours, theirs = (p.reverse(estimate, xt, 0.8, 0.3) for p in (process, inner))
    close(ours.mean, theirs.mean, 1e-12)
    assert float(ours.std) == pytest.approx(float(theirs.std), rel=1e-9)
    first = process.reverse(estimate, END, 1.0, 0.3)
    close(first.mean, inner.reverse(estimate, END, 1.0, 0.3).mean, 1e-12)
    assert float(first.std) == pytest.approx(float(inner.reverse(estimate, END, 1.0, 0.3).std), rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_from_the_end_the_first_step_is_the_marginal_whatever_eta(inner: Gaussian, eta: float) -> None:
    process = Pinned(inner, END)
    law, truth = process.reverse(Estimate(X0), END, 1.0, 0.6, eta), process.marginal(X0, 0.6)
    close(law.mean, truth.mean, 1e-12)
    assert float(law.std) == pytest.approx(float(truth.std), rel=1e-9)
    rows = torch.tensor([1.0, 0.8, 1.0], dtype=torch.float64)
    down = torch.tensor([0.6, 0.3, 1.0], dtype=torch.float64)
    xt = torch.cat([END, process.marginal(X0, 0.8).sample(Noise(0)), END])
    many = process.reverse(Estimate(X0.expand(3, 2)), xt, rows, down, eta)
    one = process.reverse(Estimate(X0), xt[1:2], 0.8, 0.3, eta)
    close(many.mean[0:1], truth.mean, 1e-12)
    close(many.mean[1:2], one.mean, 1e-12)
    close(many.mean[2:3], END, 1e-12)
    close(many.std.flatten(), tensor(float(truth.std), float(one.std), 0.0), 1e-9)
    same = process.reverse(Estimate(X0), END, 1.0, 1.0, eta)
    close(same.mean, END, 1e-14)
    assert float(same.std) == 0.0
    with pytest.raises(ValueError, match="wrong way"):
        process.reverse(Estimate(X0), xt, down, rows, eta)


def test_forward_is_the_bridge_from_where_it_stands(inner: Gaussian) -> None:
    """marginal at 0.3 and then forward to 0.7 has the mean and variance of the marginal at 0.7."""
    process = Pinned(inner, END)
    near, far = process.marginal(X0, 0.3), process.marginal(X0, 0.7)
    step = process.forward(near.mean, 0.3, 0.7)
    close(step.mean, far.mean, 1e-12)
    r = process.alpha(0.7) / process.alpha(0.3)
    assert step.std**2 + r**2 * near.std**2 == pytest.approx(far.std**2)


def test_velocity_is_the_slope_of_the_path(inner: Gaussian) -> None:
    process, eps, h = Pinned(inner, END), tensor(0.3, -0.9).reshape(1, 2), 1e-5
    for t in (0.2, 0.7):
        slope = (process.perturb(X0, t + h, eps) - process.perturb(X0, t - h, eps)) / (2 * h)
        close(process.velocity(process.perturb(X0, t, eps), X0, t), slope, 1e-6)


def test_a_scale_multiplies_the_noise_alone() -> None:
    scale = tensor(0.5, 2.0).reshape(1, 2)
    plain, scaled = Pinned(Brownian(), END), Pinned(Brownian(), END, scale)
    a, b = plain.marginal(X0, 0.4), scaled.marginal(X0, 0.4)
    close(a.mean, b.mean, 1e-14)
    close(b.std, a.std * scale, 1e-14)


def test_the_end_is_bound_from_a_condition_and_must_be_there() -> None:
    process = Pinned(Brownian(), read=lambda cond: cond["y"])
    with pytest.raises(ValueError, match="no anchor"):
        process.marginal(X0, 0.5)
    close(process.bind({"y": END}).marginal(X0, 0.5).mean, 0.5 * (X0 + END), 1e-14)


@pytest.mark.parametrize("inner", [Rectified(), Brownian(0.0)])
def test_only_an_end_that_says_something_can_be_pinned(inner: Gaussian) -> None:
    with pytest.raises(ValueError, match="can be pinned"):
        Pinned(inner, END)


def test_tent_is_the_integral_of_its_rate() -> None:
    process, n = Tent(0.1, 0.3), 100_000
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    a, b = math.sqrt(0.1), math.sqrt(0.3)
    beta = (a + 2 * torch.minimum(t, 1 - t) * (b - a)) ** 2
    for end in (0.2, 0.5, 0.8, 1.0):
        truth = float(beta[: round(end * n)].sum() / n)
        assert process.sigma(end) ** 2 == pytest.approx(truth, rel=1e-8)
        assert float(process.sigma(torch.tensor(end, dtype=torch.float64))) ** 2 == pytest.approx(truth, rel=1e-8)
    assert process.sigma(0.0) == 0.0 and process.alpha(0.3) == 1.0
    assert beta[0] == pytest.approx(0.1, rel=1e-4) and beta[n // 2] == pytest.approx(0.3, rel=1e-4)


def test_brownian_in_closed_form() -> None:
    process = Brownian(3.0)
    assert process.sigma(0.25) == 1.5 and process.alpha(0.25) == 1.0
    assert process.time_of(process.log_snr(0.3)) == pytest.approx(0.3)
    assert process.time_of(-20.0) == 1.0
    times = torch.tensor([0.3, 0.6], dtype=torch.float64)
    close(process.time_of(process.log_snr(times)), times, 1e-12)
    close(process.alpha(times), torch.ones(2).double(), 0.0)
    assert process.sde(0.4) == pytest.approx((0.0, 3.0))


def test_a_path_without_noise_is_a_straight_line() -> None:
    process = Anchored(Rectified(), END, scale=0.0)
    law = process.marginal(X0, 0.25)
    close(law.sample(Noise(0)), 0.75 * X0 + 0.25 * END, 1e-14)
