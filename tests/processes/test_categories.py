"""Chains on categories: matrices by hand, schedules, the two mixtures of D3PM, rates of jumps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, tensor

from sfumato.denoisers import Estimate
from sfumato.processes import Discrete, Neighbours, Transitions
from sfumato.processes.keeps import Cosine, Late, Linear, Tabulated, mutual_information
from sfumato.worlds import TableWorld

pytestmark = pytest.mark.usefixtures("double")
P = tensor(0.5, 0.3, 0.15, 0.05)
KEEPS = [Linear(), Cosine(), Late(), Tabulated((0.7, 0.4, 0.05, 0.0))]


def states(K: int) -> Tensor:
    return torch.arange(K).reshape(K, 1)


# Transition matrices


def test_gaussian_matrix_by_hand() -> None:
    """K = 3, beta = 1: weights exp(-d^2), over differences -2 .. 2; what is left stays on the diagonal."""
    near, far = math.exp(-1.0), math.exp(-4.0)
    whole = 1 + 2 * near + 2 * far
    a, b = near / whole, far / whole
    want = torch.tensor([[1 - a - b, a, b], [a, 1 - 2 * a, a], [b, a, 1 - a - b]])
    close(Transitions.gaussian(3, [1.0]).matrices[0], want)


def test_gaussian_limit_is_uniform_as_the_paper_says() -> None:
    """K = 256, betas 1e-4 to 0.02: after 1000 steps every row is within 0.44 % of uniform. Fewer here, by squaring."""
    ends = Transitions.gaussian(256, [1e-4, 0.02]).matrices
    close(ends.sum(1), 1.0, 1e-10)
    close(ends.sum(2), 1.0, 1e-10)
    levels = torch.linspace(1e-4, 0.02, 10)
    product = torch.eye(256, dtype=torch.float64)
    for Q in Transitions.gaussian(256, levels.tolist()).matrices:
        product = product @ torch.linalg.matrix_power(Q, 100)
    assert 0.002 < float((256 * product - 1).abs().max()) < 0.006


def test_banded_matrix_by_hand() -> None:
    want = torch.tensor([[0.9, 0.1, 0, 0], [0.1, 0.8, 0.1, 0], [0, 0.1, 0.8, 0.1], [0, 0, 0.1, 0.9]])
    close(Transitions.banded(4, [0.4], bands=1).matrices[0], want)


def test_a_chain_multiplies_its_matrices_in_their_order() -> None:
    Q = torch.softmax(torch.arange(48.0).reshape(3, 4, 4).sin() * 3, -1)  # neither symmetric nor commuting
    process = Transitions(Q)
    close(process.marginal(states(4), 1.0).probs[:, 0], Q[0] @ Q[1] @ Q[2])
    close(process.forward(states(4), 1 / 3, 1.0).probs[:, 0], Q[1] @ Q[2])
    close(process.reach(states(4), 1 / 3, 1.0, Q)[:, 0], (Q[1] @ Q[2]).T)


def test_a_chain_takes_a_time_for_each_sample() -> None:
    process = Transitions(torch.softmax(torch.arange(48.0).reshape(3, 4, 4).sin() * 3, -1))
    x, t, s = torch.tensor([[0, 3], [1, 1], [2, 0]]), tensor(1 / 3, 2 / 3, 1.0), tensor(0.0, 2 / 3, 2 / 3)
    estimate = Estimate(torch.softmax(torch.arange(24.0).reshape(3, 2, 4).cos(), -1))
    marginal, back, on = process.marginal(x, t), process.reverse(estimate, x, t, s), process.forward(x, s, t)
    for i in range(3):
        row, now, before = slice(i, i + 1), float(t[i]), float(s[i])
        close(marginal.probs[row], process.marginal(x[row], now).probs)
        close(on.probs[row], process.forward(x[row], before, now).probs)
        close(back.probs[row], process.reverse(Estimate(estimate.mean[row]), x[row], now, before).probs)
    with pytest.raises(ValueError, match="move by one step of the chain"):
        process.reverse(estimate, x, tensor(1.0, 1.0, 1.0), tensor(1 / 3, 1 / 3, 1 / 3))
    with pytest.raises(ValueError, match=r"known at t = n / 3, got t = 0\.5"):
        process.marginal(x, 0.5)


def test_prior_of_a_chain_is_uniform() -> None:
    law = Transitions.gaussian(5, [0.1]).prior(torch.zeros(2, 3))
    assert law.probs.shape == (2, 3, 5)
    close(law.probs, 0.2)


@pytest.mark.parametrize(
    "matrices",
    [torch.eye(3), torch.ones(2, 3, 2) / 2, torch.ones(1, 2, 2), torch.tensor([[[1.5, -0.5], [0.5, 0.5]]])],
)
def test_matrices_are_checked(matrices: Tensor) -> None:
    with pytest.raises(ValueError, match="rows summing to one"):
        Transitions(matrices)


# Neighbours


def test_neighbours_solve_the_forward_equation_and_contain_the_uniform_process() -> None:
    K = 4
    uniform = Neighbours(torch.full((K, K), 1 / K) - torch.eye(K), Cosine())
    for t in (0.0, 0.3, 1.0):
        close(uniform.marginal(states(K), t).probs, Discrete(K, schedule=Cosine()).marginal(states(K), t).probs)
    process = Neighbours.of(torch.tensor([[0.0], [1.0], [2.1], [3.3], [4.6]]), k=2)
    h, keep = 1e-6, 0.7
    rate = (process.matrix(keep * math.exp(-h)) - process.matrix(keep * math.exp(h))) / (2 * h)
    close(rate, process.matrix(keep) @ process.rate, 1e-8)
    close(process.marginal(states(5), 1.0).probs, 0.2)


def test_graph_of_neighbours_by_hand() -> None:
    """On a line, one neighbour each: 0 and 1 choose one another, 2 chooses 1, 3 chooses 2."""
    rate = Neighbours.of(torch.tensor([[0.0], [1.0], [2.1], [3.3]]), k=1).rate
    want = torch.tensor([[-1.0, 1, 0, 0], [1, -1.5, 0.5, 0], [0, 0.5, -1, 0.5], [0, 0, 0.5, -0.5]])
    close(rate, want)


def test_rates_are_checked() -> None:
    for bad in (torch.ones(2), torch.tensor([[-1.0, 1], [2, -2]]), torch.tensor([[1.0, -1], [-1, 1]]), torch.eye(2)):
        with pytest.raises(ValueError, match="symmetric, not negative off its diagonal"):
            Neighbours(bad)
    with pytest.raises(ValueError, match="falls into parts"):
        Neighbours.of(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), k=1)


# Schedules


@pytest.mark.parametrize("keep", KEEPS, ids=lambda k: type(k).__name__)
def test_schedules_fall_from_one_to_zero_with_their_slope(keep) -> None:
    assert keep(0.0) == pytest.approx(1.0) and keep(1.0) == 0.0
    t, h = torch.linspace(0.03, 0.97, 20, dtype=torch.float64), 1e-7
    close(keep.slope(t), (keep(t - h) - keep(t + h)) / (2 * h), 1e-6)
    close(keep(t), torch.tensor([keep(float(v)) for v in t]))
    assert bool((keep.slope(t) > 0).all())


def test_schedules_of_the_papers() -> None:
    """beta_n = 1 / (N - n + 1); the cosine that is not squared; 1 - cos(pi / 2 (1 - t))."""
    N = 7
    for n in range(1, N + 1):
        close(1 - Linear()(n / N) / Linear()((n - 1) / N), 1 / (N - n + 1))
    angle = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2)  # noqa: E731
    close(Cosine()(0.4) / Cosine()(0.3), angle(0.4) / angle(0.3))
    close(Late()(0.3), 1 - math.cos(0.5 * math.pi * 0.7))


def test_table_of_keep() -> None:
    keep = Tabulated((0.8, 0.2))
    close([keep(0.25), keep(0.5), keep(0.75)], [0.9, 0.8, 0.5])
    for bad in ((), (1.0, 0.5), (0.5, 0.6), (0.5, -0.1)):
        with pytest.raises(ValueError, match="falls from below 1 to 0"):
            Tabulated(bad)


def test_mutual_information_schedule() -> None:
    """For a mask it is 1 - t, whatever the data; for the uniform process it spreads the loss of information evenly."""
    mask = torch.zeros(5, 5)
    mask[:, 4] = 1.0
    p = torch.cat([P, torch.zeros(1)])
    found = mutual_information(lambda keep: keep * torch.eye(5) + (1 - keep) * mask, p, 8)
    close(found.values, [1 - n / 8 for n in range(1, 9)], 1e-9)
    resample = lambda keep: keep * torch.eye(4) + (1 - keep) / 4  # noqa: E731
    values = mutual_information(resample, 3 * P, 4).values
    for n, keep in enumerate(values, 1):
        joint = P[:, None] * resample(keep)
        split = joint / (P[:, None] * joint.sum(0))
        close((joint * split.log()).sum(), -(P * P.log()).sum() * (1 - n / 4), 1e-9)


# The two mixtures


def test_the_published_mixture_is_off_by_a_quarter_on_a_table_of_four_states() -> None:
    """p = (.5, .3, .15, .05), two uniform steps of beta 0.2 and 0.3, the exact p(x_0 | x_2): the Bayes form gives the
    law of the chain itself, the published form is off by 0.264.
    """
    keeps = Tabulated((0.8, 0.56))
    worst = {}
    for published in (False, True):
        process = Discrete(4, schedule=keeps, published=published)
        Q = [keep * torch.eye(4) + (1 - keep) / 4 for keep in (0.8, 0.7)]
        joint = (P @ Q[0])[:, None] * Q[1]  # of x_1 and x_2
        exact = (joint / joint.sum(0)).T
        estimate = TableWorld(P).denoiser(process)(states(4), 1.0)
        worst[published] = float((process.reverse(estimate, states(4), 1.0, 0.5).probs[:, 0] - exact).abs().max())
    assert worst[False] < 1e-12
    assert worst[True] == pytest.approx(0.264, abs=5e-4)


def test_the_mixtures_agree_with_a_mask_and_on_a_certain_estimate() -> None:
    x = states(5)
    p = torch.softmax(torch.arange(25.0).reshape(5, 1, 5).sin(), -1)
    p[..., 4] = 0.0  # no datum is the mask
    p /= p.sum(-1, keepdim=True)
    for t, s in ((0.8, 0.3), (0.8, 0.0)):
        a, b = (Discrete(5, absorbing=4, published=way).reverse(Estimate(p), x, t, s).probs for way in (False, True))
        close(a[4], b[4])  # where x_t is the mask; else the network is told x_0
    sure = Estimate(torch.nn.functional.one_hot(torch.tensor([[1], [1], [3], [0], [2]]), 5).double())
    a, b = (Discrete(5, published=way).reverse(sure, x, 0.8, 0.3).probs for way in (False, True))
    close(a, b)


def test_the_last_step_of_the_published_form_is_the_estimate() -> None:
    p = torch.softmax(torch.arange(16.0).reshape(4, 1, 4).sin(), -1)
    for process in (Discrete(4, published=True), Transitions.gaussian(4, [0.3, 0.5], published=True)):
        close(process.reverse(Estimate(p), states(4), 0.5, 0.0).probs, p)
        early = process.reverse(Estimate(p), states(4), tensor(0.5, 1, 0.5, 0.5), tensor(0.0, 0.5, 0, 0)).probs
        close(early[[0, 2, 3]], p[[0, 2, 3]])
        close(early[1], process.reverse(Estimate(p), states(4), 1.0, 0.5).probs[1])


# Rates of jumps


@pytest.mark.parametrize(
    "process",
    [
        Discrete(4, schedule=Cosine()),
        Discrete(4, absorbing=3, schedule=Late()),
        Neighbours.of(torch.tensor([[0.0], [1.0], [2.1], [3.3]], dtype=torch.float64), k=2),
        Discrete(4, published=True),
    ],
    ids=["uniform", "absorbing", "neighbours", "published"],
)
def test_backward_rates_are_those_of_a_short_step(process) -> None:
    """P(x_{t - h} = y | x_t) / h for y != x_t, as h goes to 0, is the rate from x_t to y."""
    t, h, x = 0.6, 1e-6, states(4)
    p = TableWorld(torch.tensor([0.5, 0.3, 0.2, 0.0])).denoiser(process)(x, t).mean
    exact = Discrete(4, process.absorbing, process.schedule) if isinstance(process, Discrete) else process
    step = exact.reverse(Estimate(p), x, t, t - h).probs / h
    step[torch.arange(4), 0, torch.arange(4)] = 0.0
    close(process.backward(p, x, torch.full((4,), t)), step, 1e-4)
