"""Every Gaussian process obeys the laws of a Markov chain with Gaussian marginals, for float and for tensor times."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from worlds_for_tests import PROCESSES, close, normal, tensor

from sfumato.denoisers import Estimate
from sfumato.processes import EDM, Gaussian, Geometric, LinearBeta, Rectified, Table, expand, lib
from sfumato.processes.base import Coefficient, Process, Time

every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
PAIRS = [(0.0, 0.3), (0.13, 0.71), (0.5, 1.0), (0.0, 1.0), (0.9, 0.95)]
X0, XT = normal(4, 3, seed=1), normal(4, 3, seed=2)


class Parabola(Gaussian):
    """alpha = 1 - t^2 / 2, sigma = t (1 + t): a schedule with nothing overridden."""

    def alpha(self, t: Time) -> Coefficient:
        return 1.0 - 0.5 * t**2

    def sigma(self, t: Time) -> Coefficient:
        return t * (1.0 + t)


def slope(process: Gaussian, t: float, s: float) -> torch.Tensor:
    """The factor of x_t in the mean of forward, read off its linearity."""
    zero, one = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    return process.forward(one, t, s).mean - process.forward(zero, t, s).mean


@every
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_forward_after_marginal_is_marginal(process: Gaussian, t: float, s: float) -> None:
    early, late = process.marginal(X0, t), process.marginal(X0, s)
    moved = process.forward(early.mean, t, s)
    close(moved.mean, late.mean)
    close(slope(process, t, s) ** 2 * early.std**2 + moved.std**2, late.std**2)


@every
def test_forward_moves_compose(process: Gaussian) -> None:
    t, u, s = 0.2, 0.4, 0.9
    first = process.forward(XT, t, u)
    second, whole = process.forward(first.mean, u, s), process.forward(XT, t, s)
    close(second.mean, whole.mean)
    close(slope(process, u, s) ** 2 * first.std**2 + second.std**2, whole.std**2)


@every
@pytest.mark.parametrize(("s", "t"), [(0.13, 0.71), (0.5, 1.0), (0.9, 0.95)])
def test_reverse_given_x0_is_bayes_rule(process: Gaussian, s: float, t: float) -> None:
    """q(x_s | x_t, x_0) is the product of q(x_s | x_0) and q(x_t | x_s), as normals in x_s."""
    before = process.marginal(X0, s)
    zero = torch.zeros_like(XT)
    move, r = process.forward(zero, s, t), slope(process, s, t)
    # forward: x_t ~ N(r x_s + move.mean, move.std^2)
    precision = 1 / before.std**2 + r**2 / move.std**2
    mean = (before.mean / before.std**2 + r * (XT - move.mean) / move.std**2) / precision
    law = process.reverse(Estimate(X0), XT, t, s)
    close(law.mean, mean, 1e-10)
    close(law.std**2, 1 / precision, 1e-10)


@every
@pytest.mark.parametrize(("u", "s", "t"), [(0.0, 0.3, 0.6), (0.1, 0.5, 1.0), (0.0, 0.5, 1.0), (0.2, 0.3, 0.35)])
def test_reverse_given_x0_composes(process: Gaussian, u: float, s: float, t: float) -> None:
    known = Estimate(X0)
    first, whole = process.reverse(known, XT, t, s), process.reverse(known, XT, t, u)
    second = process.reverse(known, first.mean, s, u)
    gain = process.reverse(known, first.mean + 1, s, u).mean - second.mean
    close(second.mean, whole.mean)
    close(gain**2 * first.std**2 + second.std**2, whole.std**2)


@every
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("s", "t"), [(0.0, 0.3), (0.13, 0.71), (0.5, 1.0), (0.0, 1.0)])
def test_reverse_keeps_the_marginal_for_every_eta(process: Gaussian, eta: float, s: float, t: float) -> None:
    known, late, early = Estimate(X0), process.marginal(X0, t), process.marginal(X0, s)
    law = process.reverse(known, late.mean, t, s, eta)
    gain = process.reverse(known, late.mean + 1, t, s, eta).mean - law.mean
    close(law.mean, early.mean)
    close(gain**2 * late.std**2 + law.std**2, early.std**2)
    close(law.std, eta * process.reverse(known, XT, t, s, 1.0).std)  # eta is a share of the ancestral noise


@every
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_variance_of_the_estimate_widens_the_law_by_its_gain(process: Gaussian, eta: float) -> None:
    """If x_0 ~ N(D, var), the law of x_s is reverse(x_0) averaged over it: var grows by (d mean / d D)^2 var."""
    var = normal(4, 3, seed=3) ** 2
    for s, t in [(0.13, 0.71), (0.5, 1.0), (0.0, 0.4)]:
        point = process.reverse(Estimate(X0), XT, t, s, eta)
        gain = process.reverse(Estimate(X0 + 1), XT, t, s, eta).mean - point.mean
        law = process.reverse(Estimate(X0, var), XT, t, s, eta)
        close(law.mean, point.mean)
        close(law.std**2, point.std**2 + gain**2 * var)


@every
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_no_step_is_the_identity(process: Gaussian, t: float) -> None:
    estimate = Estimate(X0, torch.ones_like(X0))
    times = torch.full((4,), t, dtype=torch.float64)
    for a, b in ((t, t), (times, times), (t, times)):
        close(process.forward(XT, a, b).mean, XT, 0.0)
        close(process.forward(XT, a, b).std, 0.0, 0.0)
        law = process.reverse(estimate, XT, a, b)
        close(law.mean, XT, 0.0)
        close(law.std, 0.0, 0.0)
    assert process.weights(t, t) == (1.0, 0.0, 0.0, 0.0)


@every
def test_the_wrong_direction_is_an_error(process: Gaussian) -> None:
    late, early = torch.tensor([0.5, 0.6]), torch.tensor([0.4, 0.7])
    for t, s in ((0.4, 0.5), (early, late), (0.4, late)):
        with pytest.raises(ValueError, match=r"reverse goes towards data, got .*0\.4"):
            process.reverse(Estimate(X0[:2]), XT[:2], t, s)
        with pytest.raises(ValueError, match="forward goes towards noise, got "):
            process.forward(XT[:2], s, t)


def test_eta_above_one_only_while_it_fits() -> None:
    process = LinearBeta()
    k_x, k_D, std, _ = process.weights(0.5, 0.4, 1.05)
    close(k_x * process.alpha(0.5) + k_D, process.alpha(0.4))
    close(k_x**2 * process.sigma(0.5) ** 2 + std**2, process.sigma(0.4) ** 2)
    with pytest.raises(ValueError, match=r"eta = 1\.5 is too large for the step 0\.9 -> 0\.1: tau = 2\.\d+ exceeds 1"):
        process.weights(0.9, 0.1, 1.5)
    t, s = torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.1])
    close(process.weights(t[:1], s[:1], 1.05)[2], std, 1e-6)
    with pytest.raises(ValueError, match=r"eta = 1\.5 is too large for these steps: tau = 2\.\d+ exceeds 1"):
        process.weights(t, s, 1.5)


@every
def test_rates_and_velocity_are_derivatives(process: Gaussian) -> None:
    eps, h = normal(4, 3, seed=4), 1e-6
    for t in (0.0717, 0.3333, 0.6283, 0.9471):
        d_alpha, d_level = process.rates(t)
        close(d_alpha, (process.alpha(t + h) - process.alpha(t - h)) / (2 * h), 1e-6)
        close(d_level, (process._level(t + h) - process._level(t - h)) / (2 * h), 1e-6)
        path = (process.perturb(X0, t + h, eps) - process.perturb(X0, t - h, eps)) / (2 * h)
        close(process.velocity(process.perturb(X0, t, eps), X0, t), path, 1e-6)
        drift = (process.shift(t + h, X0) - process.shift(t - h, X0)) / (2 * h)
        close(process.shift_rate(t, X0), drift, 1e-6)


@every
def test_sde_is_the_short_time_limit_of_forward(process: Gaussian) -> None:
    h = 1e-6
    for t in (0.0717, 0.3333, 0.6283, 0.9471):
        f, g = process.sde(t)
        assert isinstance(f, float) and isinstance(g, float)
        law = process.forward(XT, t, t + h)
        close(process.scale**2 * g**2, law.std**2 / h, 2e-4)
        close(f, (slope(process, t, t + h) - 1) / h, 2e-4)


@every
def test_rates_and_sde_take_tensor_times(process: Gaussian) -> None:
    t = torch.tensor([[0.0717, 0.3333], [0.6283, 0.9471]], dtype=torch.float64)
    for got, want in zip(
        (*process.rates(t), *process.sde(t)), _each(lambda v: (*process.rates(v), *process.sde(v)), t)
    ):
        close(got, want)


def _each(function, times: torch.Tensor) -> list[torch.Tensor]:
    """The float results of a function with several values at each of the times, stacked value by value."""
    rows = [function(float(v)) for v in times.flatten()]
    return [torch.tensor(column, dtype=torch.float64).reshape(times.shape) for column in zip(*rows)]


TIMES = [0.0, 0.0004, 0.01, 0.21, 0.5, 0.737, 0.99, 0.9996, 1.0]


@every
def test_coefficients_agree_between_float_and_tensor(process: Gaussian) -> None:
    t = torch.tensor(TIMES, dtype=torch.float64)
    names = [process.alpha, process._level, process.log_snr]
    for name in names:
        want = [name(v) for v in TIMES]
        assert all(isinstance(v, float) for v in want)
        if name == process.log_snr:  # at an end without signal, the smallest number and zero differ by the rounding
            close(name(t).clamp(-70, 70), torch.tensor(want, dtype=torch.float64).clamp(-70, 70), 1e-9)
        else:
            close(name(t), torch.tensor(want, dtype=torch.float64))


@every
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_laws_agree_between_float_and_tensor(process: Gaussian, eta: float) -> None:
    early, late = tensor(0.0, 0.2, 0.5, 0.5), tensor(0.3, 0.7, 1.0, 0.5)
    estimate = Estimate(X0, XT**2)
    marginal, forward = process.marginal(X0, late), process.forward(XT, early, late)
    reverse = process.reverse(estimate, XT, late, early, eta)
    views = process.velocity(XT, X0, late), process.score(XT, X0, late), process.eps(XT, X0, late)
    for i in range(4):
        s, t, row = float(early[i]), float(late[i]), slice(i, i + 1)
        x0, xt, one = X0[row], XT[row], Estimate(X0[row], XT[row] ** 2)
        for got, want in (
            (marginal, process.marginal(x0, t)),
            (forward, process.forward(xt, s, t)),
            (reverse, process.reverse(one, xt, t, s, eta)),
        ):
            close(got.mean[row], want.mean)
            close(got.std[row], want.std)
        wants = process.velocity(xt, x0, t), process.score(xt, x0, t), process.eps(xt, x0, t)
        for got, want in zip(views, wants):
            close(got[row], want, 1e-10)
        weights = process.weights(late, early, eta)
        for got, want in zip(weights, process.weights(t, s, eta)):
            assert isinstance(want, float)
            close(got[i], want)


def test_a_time_for_each_frame() -> None:
    process, x0 = LinearBeta(), normal(2, 3, 4, 5)
    t = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]])
    law = process.marginal(x0, t)
    for b in range(2):
        for f in range(3):
            alone = process.marginal(x0[b : b + 1, f], float(t[b, f]))
            close(law.mean[b, f], alone.mean[0], 1e-6)
            close(law.std[b, f], alone.std, 1e-6)
    assert lib(0.5) is math and lib(t) is torch
    assert expand(0.5, x0) == 0.5
    assert expand(t, x0).shape == (2, 3, 1, 1) and expand(t, x0).dtype == x0.dtype


@every
def test_views_invert_each_other(process: Gaussian) -> None:
    eps = normal(4, 3, seed=4)
    for t in (0.02, 0.5, 1.0):
        xt = process.perturb(X0, t, eps)
        close(process.eps(xt, X0, t), eps, 1e-9)
        xs = xt.clone().requires_grad_()
        (score,) = torch.autograd.grad(process.marginal(X0, t).log_prob(xs).sum(), xs)
        close(process.score(xt, X0, t), score, 1e-9)


@every
def test_log_snr_falls_and_is_the_ratio(process: Gaussian) -> None:
    values = [process.log_snr(t) for t in TIMES]
    assert all(a > b for a, b in pairwise(values))
    for t in TIMES[1:-1]:
        close(process.log_snr(t), math.log(process.alpha(t) ** 2 / process._level(t) ** 2), 1e-11)
    assert math.isinf(values[0]) == (process._level(0.0) == 0.0)


@every
def test_time_of_inverts_log_snr(process: Gaussian) -> None:
    for t in TIMES:
        back = process.time_of(process.log_snr(t))
        assert isinstance(back, float)
        # Near an end where the schedule is flat a rounding of log SNR is a larger one of t: compare there, too, in it.
        close(back, t, 2e-8 if 0.0 < t < 1.0 else 1e-6)
    t = torch.tensor(TIMES, dtype=torch.float64).reshape(3, 3)
    close(process.time_of(process.log_snr(t)), t, 1e-6)
    inside = t[t.gt(0.005) & t.lt(0.995)]
    close(process.time_of(process.log_snr(inside)), inside, 1e-11)
    for t_in in inside.tolist():
        close(process.time_of(process.log_snr(t_in)), t_in, 1e-11)


@every
def test_time_of_is_the_nearer_end_out_of_range(process: Gaussian) -> None:
    for value, end in ((math.inf, 0.0), (-math.inf, 1.0), (600.0, 0.0), (-600.0, 1.0)):
        close(process.time_of(value), end, 1e-12)
        close(process.time_of(torch.tensor([value], dtype=torch.float64)), end, 1e-12)


def test_the_base_class_needs_alpha_and_sigma_only() -> None:
    process = Parabola()
    for t in (0.1, 0.6):
        close(process.time_of(process.log_snr(t)), t)
        close(process.time_of(process.log_snr(torch.tensor([t], dtype=torch.float64))), t)
        d_alpha, d_sigma = process.rates(t)
        assert isinstance(d_alpha, float)
        close(d_alpha, -t)
        close(d_sigma, 1 + 2 * t)
        tensors = process.rates(torch.tensor([t, t], dtype=torch.float64))
        close(tensors[0], d_alpha)
        close(tensors[1], d_sigma)
        assert not tensors[0].requires_grad
    assert process.time_of(math.inf) == 0.0
    assert process.time_of(-10.0) == 1.0
    law = process.prior(XT.float())
    assert law.std == 2.0 and torch.equal(law.mean, torch.zeros_like(XT.float())) and law.mean.dtype == torch.float32
    assert process.bind("anything") is process
    assert process.log_snr(0.0) == math.inf
    assert Rectified().log_snr(1.0) == -math.inf


class Drifting(Gaussian):
    """x_0 + 3 t like + 2 t eps: a constant alpha and a shift, nothing overridden."""

    def alpha(self, t: Time) -> Coefficient:
        return torch.ones_like(t) if isinstance(t, torch.Tensor) else 1.0

    def sigma(self, t: Time) -> Coefficient:
        return 2.0 * t

    def shift(self, t: Time, like: torch.Tensor) -> torch.Tensor:
        return expand(3.0 * t, like) * torch.ones_like(like)


def test_the_base_class_carries_a_shift_and_a_constant() -> None:
    process = Drifting()
    close(process.prior(XT).mean, 3.0)
    close(process.prior(XT).std, 2.0)
    assert process.rates(0.3) == (0.0, 2.0)
    t = tensor(0.3, 0.4)
    close(torch.stack(process.rates(t)), tensor(0.0, 2.0).reshape(2, 1))


@pytest.mark.parametrize("process", [LinearBeta(), Table.linear()], ids=["LinearBeta", "Table"])
def test_variance_preserving_priors_are_standard(process: Gaussian) -> None:
    """The papers start from N(0, I); what that neglects is alpha(1)^2 of the data, below 1e-4."""
    law = process.prior(XT)
    assert law.std == 1.0 and not bool(law.mean.any())
    assert 0 < 1 - process.marginal(X0, 1.0).std ** 2 < 1e-4


@pytest.mark.parametrize(("process", "top"), [(Geometric(), 50.0), (EDM(), 80.0), (Rectified(), 1.0)])
def test_other_priors_have_the_largest_noise(process: Gaussian, top: float) -> None:
    law = process.prior(XT)
    close(law.std, top)
    assert law.mean.shape == XT.shape and not bool(law.mean.any())


def test_process_is_a_protocol() -> None:
    with pytest.raises(TypeError):
        Process()  # type: ignore[abstract]
    with pytest.raises(TypeError):
        Gaussian()  # type: ignore[abstract]


@every
def test_tensor_times_are_computed_in_float64_whatever_they_come_in(process: Gaussian) -> None:
    """0.40625 is the same number in half, single and double precision: states in float64 then agree to rounding."""
    t, s = 0.40625, 0.25
    views = {
        "marginal": lambda t: process.marginal(X0, t).mean,
        "std": lambda t: process.marginal(X0, t).std * torch.ones_like(X0),
        "perturb": lambda t: process.perturb(X0, t, XT),
        "eps": lambda t: process.eps(XT, X0, t),
        "score": lambda t: process.score(XT, X0, t),
        "velocity": lambda t: process.velocity(XT, X0, t),
        "reverse": lambda t: process.reverse(Estimate(X0), XT, t, s if isinstance(t, float) else t.new_tensor(s)).mean,
    }
    for view in views.values():
        for dtype in (torch.float16, torch.float32):
            close(view(torch.full((4,), t, dtype=dtype)), view(t), 1e-11)
