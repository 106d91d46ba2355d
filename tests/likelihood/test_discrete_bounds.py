"""Bounds on categories against enumeration: chains, continuous time, random orders, and what ties them."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, tensor

from sfumato.denoisers import Denoiser, Estimate
from sfumato.laws import Categorical
from sfumato.likelihood import chain_term, continuous_elbo, elbo, jump_term, known_after, order_losses, unknown_loss
from sfumato.noise import Noise
from sfumato.processes import Categories, Discrete, Neighbours, Transitions
from sfumato.processes.keeps import Cosine, Late, Tabulated
from sfumato.worlds import TableWorld

pytestmark = pytest.mark.usefixtures("double")
P = tensor(0.5, 0.3, 0.15, 0.05)
BETAS = (0.2, 0.3, 0.4, 0.5, 0.6)
KEEPS = tuple(itertools.accumulate((1 - b for b in BETAS), lambda a, b: a * b))
BITS = torch.zeros(3, 3, 3, dtype=torch.float64)  # three correlated bits, the third category the mask
BITS[:2, :2, :2] = torch.tensor([[[0.3, 0.02], [0.05, 0.1]], [[0.02, 0.11], [0.1, 0.3]]])


def states(world: TableWorld) -> Tensor:
    """Every sequence that the table allows."""
    return world._states[world.table.flatten() > 0]


def mean_chain(denoiser: Denoiser, x0: Tensor, times: tuple[float, ...]) -> Tensor:
    """The bound of each x_0 with every x_t weighted by its probability instead of drawn, (n,)."""
    process = denoiser.process
    assert isinstance(process, Categories)
    every = torch.cartesian_prod(*[torch.arange(process.classes)] * x0.shape[1]).reshape(-1, x0.shape[1])
    totals = []
    for row in x0:
        start = row.expand(len(every), -1)
        total = process.marginal(row[None], 1.0).kl(process.prior(row[None]))[0]
        for t, s in itertools.pairwise(times):
            weight = process.marginal(row[None], t).probs[0].gather(1, every.T).prod(0)
            seen = weight > 0
            xt = every[seen]
            total = total + weight[seen] @ chain_term(process, denoiser(xt, t), start[seen], xt, t, s)
        totals.append(total)
    return torch.stack(totals)


def entropy(table: Tensor) -> float:
    return float(-torch.xlogy(table, table).sum())


# The chain


def by_matrices(*, last_from_mixture: bool) -> float:
    """The mean bound of the published form fed with the exact p(x_0 | x_n), from the matrices alone."""
    total = 0.0
    for n, beta in enumerate(BETAS, 1):
        one, before, now = ((k * torch.eye(4) + (1 - k) / 4) for k in (1 - beta, (1.0, *KEEPS)[n - 1], KEEPS[n - 1]))
        for x in range(4):
            p0 = P * now[:, x] / (P @ now[:, x])
            law = one[:, x] * (p0 @ before)
            law = law / law.sum() if n > 1 or last_from_mixture else p0
            for k in range(4):
                true = one[:, x] * before[k]
                true = true / true.sum()
                total += float(P[k] * now[k, x] * (torch.xlogy(true, true) - torch.xlogy(true, law)).sum())
    return total + float(sum(P[k] * (now[k] * (4 * now[k]).log()).sum() for k in range(4)))


def test_bound_of_the_chain_with_the_exact_denoiser() -> None:
    """One position, five uniform steps. In the Bayes form the mean bound is H(x_0) + KL(q(x_N) | prior) = 1.14315. The
    published form loses 0.15, and 0.40 where the last step is a mixture too, which neither we nor the code do.
    """
    world, times = TableWorld(P), tuple(n / 5 for n in range(5, -1, -1))
    bayes, published = (
        P @ mean_chain(world.denoiser(Discrete(4, schedule=Tabulated(KEEPS), published=way)), states(world), times)
        for way in (False, True)
    )
    last = KEEPS[-1] * P + (1 - KEEPS[-1]) / 4
    close(bayes, entropy(P) + (last * (4 * last).log()).sum(), 1e-10)
    assert float(bayes) == pytest.approx(1.14315, abs=5e-6)
    assert by_matrices(last_from_mixture=True) == pytest.approx(1.5475, abs=5e-5)
    close(published, by_matrices(last_from_mixture=False), 1e-10)


@pytest.mark.parametrize(
    "process",
    [Transitions.gaussian(4, [0.5, 0.8, 1.5]), Neighbours.of(tensor(0.0, 1.0, 2.1, 3.3)[:, None], 2, Cosine())],
    ids=["gaussian", "neighbours"],
)
def test_bound_is_tight_for_one_position_and_any_matrices(process: Categories) -> None:
    world = TableWorld(P)
    found = P @ mean_chain(world.denoiser(process), states(world), (1.0, 2 / 3, 1 / 3, 0.0))
    last = P @ process.marginal(torch.arange(4)[:, None], 1.0).probs[:, 0]
    close(found, entropy(P) + (last * (4 * last).log()).sum(), 1e-10)


def test_masked_chain_tends_to_the_entropy_as_one_over_its_steps() -> None:
    """Three dependent bits: what a step of several bits at once loses falls as 1 / N."""
    world = TableWorld(BITS)
    denoiser = world.denoiser(Discrete(3, absorbing=2))
    loss = {}
    for n in (5, 10, 20):
        times = tuple(i / n for i in range(n, -1, -1))
        p = world.table[tuple(states(world).T)]
        loss[n] = float(p @ mean_chain(denoiser, states(world), times)) - entropy(world.table)
    assert loss[20] > 0
    assert loss[10] / loss[20] == pytest.approx(2.0, rel=0.02)
    assert loss[5] / loss[10] == pytest.approx(2.0, rel=0.02)


def test_elbo_draws_what_the_enumeration_says() -> None:
    world = TableWorld(P)
    process = Discrete(4, schedule=Tabulated(KEEPS))
    denoiser, times = world.denoiser(process), tuple(n / 5 for n in range(5, -1, -1))
    want = mean_chain(denoiser, states(world), times)
    for x0 in (0, 3):
        rows = torch.full((20_000, 1), x0)
        bound = elbo(denoiser, rows, times, Noise(0))
        assert bound.steps.shape == (20_000, 4)
        assert abs(float(bound.total.mean() - want[x0])) < 4 * float(bound.total.std()) / 20_000**0.5
        close(bound.prior, process.marginal(rows, 1.0).kl(process.prior(rows)))
        close(bound.bits(1), bound.total / math.log(2))


def test_elbo_that_stops_early_decodes_by_the_estimate() -> None:
    """Times 1 and 0.4 of a mask: the prior says nothing, one step, and -log p(x_0 | x_0.4)."""
    world = TableWorld(torch.cat([P, torch.zeros(1)]))
    rows = torch.zeros(4000, 1, dtype=torch.int64)
    bound = elbo(world.denoiser(Discrete(5, absorbing=4)), rows, (1.0, 0.4), Noise(0))
    close(bound.steps.mean(1), 0.6 * -math.log(0.5), 1e-9)  # KL of being unmasked as 0 to being unmasked as any
    assert set(bound.decoder.round(decimals=6).tolist()) == {0.0, round(math.log(2), 6)}
    assert abs(float((bound.decoder > 0).double().mean()) - 0.4) < 4 * (0.24 / 4000) ** 0.5


def test_terms_for_times_of_each_row_are_those_one_by_one() -> None:
    process = Transitions.gaussian(4, [0.3, 0.5, 0.9])
    x0, xt = torch.tensor([[0, 1], [2, 2], [3, 0]]), torch.tensor([[0, 2], [2, 1], [1, 0]])
    t, s = tensor(1 / 3, 2 / 3, 1.0), tensor(0.0, 1 / 3, 2 / 3)
    p = torch.softmax(torch.arange(24.0).reshape(3, 2, 4).sin(), -1)
    found = chain_term(process, Estimate(p), x0, xt, t, s)
    for i in range(3):
        row = slice(i, i + 1)
        one = chain_term(process, Estimate(p[row]), x0[row], xt[row], float(t[i]), float(s[i]))
        close(found[row], one)
    close(found[0], -Categorical(process.reverse(Estimate(p[:1]), xt[:1], 1 / 3, 0.0).probs).log_prob(x0[:1])[0])


def test_tails_that_underflow_cost_nothing() -> None:
    """In float32 the law of a far level is 1e-40 under the truth and 0 under the estimate: no infinity."""
    process = Transitions.gaussian(16, [0.002, 0.01, 0.3])
    x0 = torch.arange(16).reshape(16, 1)
    p = torch.full((16, 1, 16), 1e-6, dtype=torch.float32)
    p[:, 0, 7] = 1.0
    term = chain_term(process, Estimate(p / p.sum(-1, keepdim=True)), x0, x0, 2 / 3, 1 / 3)
    assert bool(torch.isfinite(term).all()) and float(term.max()) > 1.0


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("late", [False, True])
def test_an_estimate_that_is_wrong_beyond_a_float_has_a_finite_gradient(published: bool, late: bool) -> None:
    """A level 15 steps away is e^-40000 under a narrow chain: the loss stays finite, and pulls the right way."""
    process = Transitions.gaussian(16, [1e-4, 1e-4, 1e-4], published)
    logits = torch.zeros(1, 1, 16, dtype=torch.float32)
    logits[..., 15] = 200.0  # softmax gives all others 0 in float32
    logits.requires_grad_()
    x0, xt = torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 1), 15 if late else 0)
    for t, s in ((2 / 3, 1 / 3), (1 / 3, 0.0)):
        for pair in ((t, s), (torch.tensor([t]), torch.tensor([s]))):
            term = chain_term(process, Estimate(torch.softmax(logits, -1)), x0, xt, *pair)
            (gradient,) = torch.autograd.grad(term.sum(), logits)
            assert bool(torch.isfinite(term).all()) and bool(torch.isfinite(gradient).all())
            assert term.item() >= 0.0 if late else term.item() > 20.0


def test_a_state_that_no_class_reaches_leaves_the_estimate() -> None:
    process = Transitions.gaussian(16, [1e-4, 1e-4])
    p = torch.zeros(1, 1, 16, dtype=torch.float32)
    p[..., 3], p[..., 4] = 0.25, 0.75
    law = process.reverse(Estimate(p), torch.full((1, 1), 15), 1.0, 0.5)
    assert torch.equal(law.probs, p)
    near = process.reverse(Estimate(p), torch.full((1, 1), 4), 1.0, 0.5)
    assert float(near.probs[..., 4]) == pytest.approx(1.0, abs=1e-6)


# Continuous time


@cache
def mean_jumps(kind: str, points: int) -> tuple[Tensor, Tensor]:
    """(mean over t and x_t of the integrand, -log p) for each x_0 of two positions, by the midpoint rule."""
    table = torch.zeros(3, 3, dtype=torch.float64)
    table[:2, :2] = torch.tensor([[0.4, 0.1], [0.15, 0.35]])
    process = {
        "mask": Discrete(3, absorbing=2),
        "late": Discrete(3, absorbing=2, schedule=Late()),
        "uniform": Discrete(3),
        "ring": Neighbours(torch.ones(3, 3) / 3 - torch.eye(3), Cosine()),
    }[kind]
    world = TableWorld(table)
    denoiser, x0 = world.denoiser(process), states(world)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    total = torch.zeros(len(x0))
    t = ((torch.arange(points) + 0.5) / points).repeat_interleave(len(every))
    every = every.repeat(points, 1)
    for n, row in enumerate(x0):
        start = row.expand(len(every), -1)
        weight = process.marginal(start, t).probs.gather(2, every.unsqueeze(2)).squeeze(2).prod(1)
        seen = weight > 0
        terms = jump_term(process, denoiser(every[seen], t[seen]), start[seen], every[seen], t[seen])
        total[n] = weight[seen] @ terms / points
    return total, -world.log_prob(x0)


@pytest.mark.parametrize("kind", ["mask", "late", "uniform", "ring"])
def test_continuous_bound_in_the_mean_is_the_entropy(kind: str) -> None:
    """With the exact denoiser the bound of continuous time is tight in the mean, whatever the process and schedule."""
    found, truth = mean_jumps(kind, 200)
    p = (-truth).exp()
    assert float(p @ found) == pytest.approx(float(p @ truth), abs=2e-3)
    assert bool((found > 0).all())


def test_masked_integrand_is_a_weighted_cross_entropy() -> None:
    """-keep' / (1 - keep) sum over masked positions of -log p: for the linear schedule, 1 / t."""
    process, t = Discrete(5, absorbing=4), tensor(0.3, 0.8)
    p = torch.zeros(2, 3, 5)
    p[..., :4] = torch.softmax(torch.arange(24.0).reshape(2, 3, 4).sin(), -1)
    x0 = torch.tensor([[0, 1, 3], [2, 2, 0]])
    xt = torch.tensor([[4, 1, 4], [4, 4, 4]])
    logs = p.gather(-1, x0.unsqueeze(-1)).squeeze(-1).log()
    want = torch.stack([-(logs[0, 0] + logs[0, 2]) / 0.3, -logs[1].sum() / 0.8])
    close(jump_term(process, Estimate(p), x0, xt, t), want)
    late = Discrete(5, absorbing=4, schedule=Late())
    ratio = 0.5 * math.pi * math.sin(0.5 * math.pi * 0.7) / math.cos(0.5 * math.pi * 0.7)
    close(jump_term(late, Estimate(p), x0, xt, t)[0], -(logs[0, 0] + logs[0, 2]) * ratio)


def test_continuous_elbo_draws_the_same_number() -> None:
    """One position under a mask: the bound is -log p for each x_0, and unbiased at any number of points."""
    world = TableWorld(torch.cat([P, torch.zeros(1)]))
    denoiser = world.denoiser(Discrete(5, absorbing=4))
    for points, end in ((1, 1e-5), (7, 0.25)):
        x0 = torch.full((6000, 1), 2)
        bound = continuous_elbo(denoiser, x0, Noise(3), points=points, end=end)
        assert bound.steps.shape == (6000, points)
        gap = float(bound.total.mean()) + math.log(0.15)
        assert abs(gap) < 4 * float(bound.total.std()) / 6000**0.5
        close(bound.prior, 0.0)
    share = float((continuous_elbo(denoiser, x0, Noise(3), points=7, end=0.25).decoder > 0).double().mean())
    assert abs(share - 0.25) < 0.03


# Random orders


def code_length(world: TableWorld, x: Tensor) -> float:
    """-log p(x), which is the code length in any order."""
    return float(-world.log_prob(x[None])[0])


def test_bound_of_random_orders_is_the_exact_likelihood() -> None:
    """With exact conditionals every order has the code length -log p(x): sum over k of the mean of the unknown terms,
    over all k-subsets.
    """
    world = TableWorld(BITS)
    denoiser = world.denoiser(Discrete(3, absorbing=2))
    for x in states(world):
        total = 0.0
        for k in range(3):
            subsets = list(itertools.combinations(range(3), k))
            known = torch.zeros(len(subsets), 3, dtype=torch.bool)
            for row, subset in enumerate(subsets):
                known[row, list(subset)] = True
            losses = unknown_loss(denoiser, x.expand(len(subsets), -1), known, 1 - k / 3) / (3 - k)
            total += float(losses.mean())
        assert total == pytest.approx(code_length(world, x), abs=1e-10)


def test_order_losses_draw_that_bound() -> None:
    world = TableWorld(BITS)
    x = torch.tensor([0, 0, 1]).expand(6000, -1)
    losses = order_losses(world.denoiser(Discrete(3, absorbing=2)), x, Noise(0))
    assert losses.shape == (6000, 3)
    total = losses.sum(1)
    assert abs(float(total.mean()) - code_length(world, x[0])) < 4 * float(total.std()) / 6000**0.5
    some = order_losses(world.denoiser(Discrete(3, absorbing=2)), x[:2], Noise(0), counts=[0])
    alone = world.table.sum((1, 2)).log()[0] + world.table.sum((0, 2)).log()[0] + world.table.sum((0, 1)).log()[1]
    close(some, -alone / 3)


def test_masked_continuous_time_and_random_orders_are_one_bound() -> None:
    """For each x_0, not only in the mean: the number that is known is uniform whatever the schedule."""
    table = torch.zeros(3, 3, dtype=torch.float64)
    table[:2, :2] = torch.tensor([[0.4, 0.1], [0.15, 0.35]])
    for kind in ("mask", "late"):
        found, truth = mean_jumps(kind, 200)
        close(found, truth, 3e-3)


def test_what_is_known_after_some_steps() -> None:
    order = torch.tensor([[2, 0, 1], [1, 2, 0]])
    assert known_after(order, 1).tolist() == [[False, False, True], [False, True, False]]
    assert known_after(order, torch.tensor([0, 2])).tolist() == [[False] * 3, [False, True, True]]
