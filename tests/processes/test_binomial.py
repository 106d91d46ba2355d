"""Bits against tables of probabilities, the categorical process of two classes, and the paper's closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch import distributions as td
from worlds_for_tests import close, normal, tensor

from sfumato import grids
from sfumato.denoisers import Denoiser, Estimate
from sfumato.laws import Normal
from sfumato.likelihood import bits_elbo, entropy, entropy_bounds, kl_term, trajectory_bound
from sfumato.noise import Noise, Seeds
from sfumato.processes import Bernoulli, Binomial, Discrete, LinearBeta
from sfumato.samplers import Ancestral, sample

pytestmark = pytest.mark.usefixtures("double")
PROCESS = Binomial()
BOTH = tensor(-1.0, 1.0).reshape(2, 1)


def test_keep_is_the_product_of_the_papers_betas() -> None:
    """beta_n = 1 / (N - n + 1): prod (1 - beta_i) = 1 - n / N; q(x_n = 1 | x_0 = 1) = prod + 0.5 (1 - prod)."""
    N, kept = 7, 1.0
    for n in range(1, N + 1):
        kept *= 1 - 1 / (N - n + 1)
        close(PROCESS.keep(n / N), kept)
        law = PROCESS.marginal(BOTH, n / N)
        close(0.5 * (1 + law.mean[1]), kept + 0.5 * (1 - kept))
        close(0.5 * (1 + law.mean[0]), 0.5 * (1 - kept))
    close(law.mean, 0.0)


def test_bits_are_two_categories() -> None:
    """All laws of the uniform categorical process of K = 2 classes, by another arithmetic."""
    twin, x = Discrete(2), torch.tensor([[0], [1]])
    for s, t in ((0.0, 0.4), (0.3, 0.8), (0.5, 1.0), (0.0, 1.0), (0.3, 0.3), (0.0, 0.0)):
        close(PROCESS.marginal(BOTH, t).mean, twin.marginal(x, t).probs[..., 1] * 2 - 1)
        close(PROCESS.forward(BOTH, s, t).mean, twin.forward(x, s, t).probs[..., 1] * 2 - 1)
        for p in (0.0, 0.3, 1.0):
            if t == 0.0:
                continue
            mine = PROCESS.reverse(Estimate(torch.full((2, 1), 2 * p - 1)), BOTH, t, s)
            other = twin.reverse(Estimate(tensor(1 - p, p).expand(2, 1, 2)), x, t, s)
            close(mine.mean, other.probs[..., 1] * 2 - 1)
    close(PROCESS.reverse(Estimate(torch.zeros(2, 1)), BOTH, 0.0, 0.0).mean, BOTH)


def test_tensor_times_agree_with_float_times() -> None:
    early, late = tensor(0.0, 0.2, 0.5, 0.0, 1.0), tensor(0.3, 1.0, 0.5, 0.0, 1.0)
    x = torch.where(normal(5, 3) > 0, 1.0, -1.0)
    D = normal(5, 3, seed=1).tanh()
    laws = PROCESS.marginal(x, late), PROCESS.forward(x, early, late), PROCESS.reverse(Estimate(D), x, late, early)
    for i in range(5):
        s, t, row = float(early[i]), float(late[i]), slice(i, i + 1)
        wants = (
            PROCESS.marginal(x[row], t),
            PROCESS.forward(x[row], s, t),
            PROCESS.reverse(Estimate(D[row]), x[row], t, s),
        )
        for law, want in zip(laws, wants):
            close(law.mean[row], want.mean)
    close(PROCESS.forward(x, 0.2, tensor(0.3, 0.4, 0.5, 0.6, 0.7)).mean[1], x[1] * 0.6 / 0.8)


def test_the_law_of_bits() -> None:
    mean = normal(2, 3).tanh()
    other = normal(2, 3, seed=1).tanh()
    one, two = td.Bernoulli((1 + mean) / 2), td.Bernoulli((1 + other) / 2)
    x = torch.where(normal(2, 3, seed=2) > 0, 1.0, -1.0)
    close(Bernoulli(mean).log_prob(x), one.log_prob((1 + x) / 2).sum(1))
    close(Bernoulli(mean).kl(Bernoulli(other)), td.kl_divergence(one, two).sum(1))
    close(Bernoulli(mean).entropy(), one.entropy().sum(1))
    close(Bernoulli(x).kl(Bernoulli(mean)), -one.log_prob((1 + x) / 2).sum(1))  # 0 log 0 = 0
    close(Bernoulli(x).entropy(), 0.0)
    drawn = Bernoulli(tensor(-0.6, 0.2, -1.0, 1.0).expand(40_000, 4)).sample(Noise(0))
    close(drawn.unique(), tensor(-1.0, 1.0))
    close(drawn.mean(0), tensor(-0.6, 0.2, -1.0, 1.0), 0.02)
    with pytest.raises(TypeError, match="Bernoulli only, got Normal"):
        Bernoulli(mean).kl(Normal(mean))
    # The product of two laws: p p' normalised.
    joint = one.probs * two.probs
    want = joint / (joint + (1 - one.probs) * (1 - two.probs))
    close(Bernoulli(mean).times(Bernoulli(other)).mean, 2 * want - 1)
    with pytest.raises(ValueError, match="opposite bits"):
        Bernoulli(x).times(Bernoulli(-x))


class Table2(Denoiser):
    """The exact denoiser of a table of bits, by Bayes' rule; `joint` is the exact reverse law of all of them."""

    def __init__(self, probs: Tensor) -> None:
        super().__init__()
        self.process, self.probs = PROCESS, probs.flatten()
        self.states = tensor(*[v for row in itertools.product((-1.0, 1.0), repeat=probs.ndim) for v in row])
        self.states = self.states.reshape(-1, probs.ndim)

    def forward(self, xt, t, cond=None):
        keep = torch.as_tensor(self.process.keep(t)).reshape(-1, 1, 1)
        reach = 0.5 * (1 + keep * self.states * xt[:, None]).prod(-1, keepdim=True)
        weight = self.probs[:, None] * reach
        weight = weight / weight.sum(1, keepdim=True)
        return Estimate((weight * self.states).sum(1))


PROBS = torch.tensor([[0.5, 0.05], [0.15, 0.3]], dtype=torch.float64)


def test_bound_of_a_table_with_its_exact_reverse() -> None:
    """One bit: K = -H(X_1) exactly, by enumeration; and the bound of the likelihood is -H(X_0) for independent bits."""
    N, p = 4, 0.2
    one = Table2(tensor(1 - p, p))
    times = grids.uniform(N)
    x0 = one.states
    K = torch.zeros(2)
    for i, t in enumerate(times[:-2]):
        s = times[i + 1]
        for xt in (-1.0, 1.0):
            x = torch.full((2, 1), xt)
            weight = PROCESS.marginal(x0, t).log_prob(x).exp()
            kl = PROCESS.reverse(Estimate(x0), x, t, s).kl(PROCESS.reverse(one(x, t), x, t, s))
            K += weight * kl
    bound = trajectory_bound(one, x0, times[:-1], Noise(0))
    exact = float((tensor(1 - p, p) * (-K + bound.last - bound.first - bound.prior)).sum())
    q = (1 - 1 / N) * p + 0.5 / N
    close(exact, q * math.log(q) + (1 - q) * math.log(1 - q))
    assert bound.steps.shape == (2, N - 1)
    # The estimate with one draw for each step has this mean.
    big = one.states[(torch.arange(40_000) % 1000 < 1000 * p).long()]
    drawn = trajectory_bound(one, big, times[:-1], Noise(1)).total
    assert abs(float(drawn.mean()) - exact) < 4 * float(drawn.std()) / 200
    close(trajectory_bound(one, big, times[:-1], Noise(1)).bits(2), -drawn / (2 * math.log(2)))
    likelihood = bits_elbo(one, big, times, Noise(2)).total
    assert (
        abs(float(likelihood.mean()) + p * math.log(p) + (1 - p) * math.log(1 - p)) < 4 * float(likelihood.std()) / 200
    )


def test_two_bits_of_the_card() -> None:
    """Two dependent bits: kernels of independent bits cannot be exact; the gap to -H(X_0) falls with the step."""
    world = Table2(PROBS)
    entropy_0 = -float((PROBS * PROBS.log()).sum())
    gaps = []
    for N in (4, 16):
        x0 = world.states[Noise(0).choice(world.probs.expand(40_000, -1))]
        total = bits_elbo(world, x0, grids.uniform(N), Noise(N)).total
        gaps.append(float(total.mean()) - entropy_0)
    assert gaps[0] > gaps[1] > -0.02
    assert gaps[1] < 0.4 * gaps[0] + 0.01
    with pytest.raises(ValueError, match="times fall to t_1 > 0"):
        trajectory_bound(world, x0, grids.uniform(4), Noise(0))


def test_sampling_recovers_a_table() -> None:
    """Ancestral sampling with the library's sampler: the table within the error of few independent steps."""
    world, n = Table2(PROBS), 20_000
    x = sample(
        world,
        Ancestral(),
        x1=PROCESS.prior(torch.zeros(n, 2)).sample(Noise(0)),
        times=grids.uniform(60),
        noise=Noise(1),
    )
    for state, p in zip(world.states, world.probs):
        share = float((x == state).all(1).double().mean())
        assert abs(share - float(p)) < 4 * math.sqrt(0.25 / n) + 0.006
    one = Table2(tensor(0.8, 0.2))  # independent bits: exact in any number of steps
    x = sample(
        one, Ancestral(), x1=PROCESS.prior(torch.zeros(n, 1)).sample(Noise(2)), times=grids.uniform(3), noise=Noise(3)
    )
    assert abs(float((x > 0).double().mean()) - 0.2) < 4 * math.sqrt(0.16 / n)


def test_entropy_bounds() -> None:
    """They hold for a bit between whose levels the exact entropy is known; of normals they are btilde and beta."""
    p, s, t = 0.2, 0.3, 0.55
    marginal = [0.5 * (1 + PROCESS.keep(u) * (2 * p - 1)) for u in (s, t)]
    h = [-q * math.log(q) - (1 - q) * math.log(1 - q) for q in marginal]
    lower, upper = entropy_bounds(PROCESS, BOTH, t, s)
    exact = float(upper[0]) + h[0] - h[1]  # H(X_s | X_t) = H(X_t | X_s) + H(X_s) - H(X_t)
    assert float(lower[0]) < exact < float(upper[0])
    process = LinearBeta()
    lower, upper = entropy_bounds(process, torch.zeros(1, 2), 0.6, 0.5)
    away, back = process.forward(torch.zeros(1), 0.5, 0.6).std, process.weights(0.6, 0.5)[2]
    for value, std in ((lower, back), (upper, away)):
        close(value, 2 * td.Normal(tensor(0.0), tensor(std)).entropy())
    with pytest.raises(TypeError, match="entropy is known of a Normal and a Bernoulli, got Categorical"):
        entropy(Discrete(2).prior(torch.zeros(1, 1, dtype=torch.int64)))


def test_kl_term_of_the_last_step_is_the_log_mass() -> None:
    world, x0 = Table2(PROBS), Table2(PROBS).states
    t = torch.full((4,), 0.25)
    xt = PROCESS.marginal(x0, t).sample(Noise(5))
    close(kl_term(world, x0, t, torch.zeros(4), Noise(5)), -Bernoulli(world(xt, t).mean).log_prob(x0))


def test_a_batch_of_two_is_two_batches_of_one() -> None:
    law = PROCESS.marginal(torch.where(normal(2, 3) > 0, 1.0, -1.0), 0.5)
    close(law.sample(Seeds([3, 4]))[1:], Bernoulli(law.mean[1:]).sample(Seeds([4])))


def test_errors() -> None:
    flat = Estimate(torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"ancestral reverse law only \(eta = 1\), got eta = 0"):
        PROCESS.reverse(flat, BOTH, 0.5, 0.2, 0.0)
    with pytest.raises(ValueError, match="reverse goes towards data"):
        PROCESS.reverse(flat, BOTH, 0.2, 0.5)
    with pytest.raises(ValueError, match="forward goes towards noise"):
        PROCESS.forward(BOTH, 0.5, 0.2)
    close(PROCESS.prior(torch.zeros(3, 2)).mean, torch.zeros(3, 2))


def test_bound_of_one_step() -> None:
    """From fair bits straight to x_0: log 2 for each bit of a fair estimate, and no steps between."""
    flat = Table2(torch.full((2, 2), 0.25, dtype=torch.float64))
    bound = bits_elbo(flat, flat.states, (1.0, 0.0), Noise(0))
    assert bound.steps.shape == (4, 0)
    close(bound.prior, 0.0)
    close(bound.total, 2 * math.log(2))
