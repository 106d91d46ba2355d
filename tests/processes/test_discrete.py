"""Discrete processes against matrices of transition probabilities and Bayes' rule, one position at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, tensor

from sfumato.denoisers import Estimate
from sfumato.processes import Categories, Discrete, Neighbours, Transitions
from sfumato.processes.keeps import Cosine, Late

K = 4
pytestmark = pytest.mark.usefixtures("double")
RING = torch.tensor(
    [[-1.0, 0.5, 0.0, 0.5], [0.5, -0.7, 0.2, 0.0], [0.0, 0.2, -0.6, 0.4], [0.5, 0.0, 0.4, -0.9]], dtype=torch.float64
)
PROCESSES = {
    "uniform": Discrete(K),
    "absorbing": Discrete(K, absorbing=2),
    "cosine": Discrete(K, schedule=Cosine()),
    "late": Discrete(K, absorbing=2, schedule=Late()),
    "neighbours": Neighbours(RING),
}
CHAINS = {**PROCESSES, "gaussian": Transitions.gaussian(K, [0.02 * (n + 1) for n in range(10)])}
every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
chains = pytest.mark.parametrize("process", CHAINS.values(), ids=CHAINS)  # at tenths, for one time a batch
STATES = torch.arange(K).reshape(K, 1)  # a batch of K rows, one position, every category


def marginals(process: Categories, t: float) -> Tensor:
    """q(x_t | x_0) as a matrix, (x_0, x_t)."""
    return process.marginal(STATES, t).probs[:, 0]


def moves(process: Categories, t: float, s: float) -> Tensor:
    """q(x_s | x_t) as a matrix, (x_t, x_s)."""
    return process.forward(STATES, t, s).probs[:, 0]


def test_the_two_laws_of_austin() -> None:
    """D3PM: uniform has (1 - t) I + t / K, absorbing sends the share t to the mask."""
    close(marginals(Discrete(K), 0.3), 0.7 * torch.eye(K) + 0.3 / K)
    masked = 0.7 * torch.eye(K)
    masked[:, 2] += 0.3
    close(marginals(Discrete(K, absorbing=2), 0.3), masked)


@chains
@pytest.mark.parametrize(
    ("t", "s"), [(0.0, 0.4), (0.3, 0.8), (0.5, 1.0), (0.0, 1.0), (0.4, 0.4), (1.0, 1.0), (0.0, 0.0)]
)
def test_forward_after_marginal_is_marginal(process: Categories, t: float, s: float) -> None:
    close(moves(process, t, s).sum(1), 1.0)
    close(marginals(process, t) @ moves(process, t, s), marginals(process, s))


@chains
@pytest.mark.parametrize(("s", "t"), [(0.0, 0.4), (0.3, 0.8), (0.5, 1.0), (0.0, 1.0)])
def test_reverse_is_bayes_rule_averaged_over_the_estimate(process: Categories, s: float, t: float) -> None:
    p0 = tensor(0.4, 0.3, 0.0, 0.3)  # no clean position is the mask
    for xt in range(K):
        reach = p0 * marginals(process, t)[:, xt]
        if reach.sum() == 0:
            continue
        posterior = reach / reach.sum()
        want = torch.zeros(K, dtype=torch.float64)
        for x0 in range(K):
            bridge = marginals(process, s)[x0] * moves(process, s, t)[:, xt]
            if posterior[x0] > 0:
                want += posterior[x0] * bridge / bridge.sum()
        law = process.reverse(Estimate(posterior.reshape(1, 1, K)), torch.tensor([[xt]]), t, s)
        close(law.probs[0, 0], want)


@chains
def test_reverse_composes_given_x0(process: Categories) -> None:
    for x0 in range(K):
        known = Estimate(torch.nn.functional.one_hot(STATES * 0 + x0, K).double())
        whole = process.reverse(known, STATES, 0.9, 0.1).probs[:, 0]
        first = process.reverse(known, STATES, 0.9, 0.6).probs[:, 0]
        second = process.reverse(known, STATES, 0.6, 0.1).probs[:, 0]
        possible = marginals(process, 0.9)[x0] > 0
        mid = torch.where(marginals(process, 0.6)[x0] > 0, 1.0, 0.0)
        close((first[possible] * mid) @ second.nan_to_num(), whole[possible])


@every
def test_float_and_tensor_times_agree(process: Categories) -> None:
    early, late = tensor(0.0, 0.2, 0.5, 0.3, 1.0), tensor(0.3, 0.7, 1.0, 0.3, 1.0)
    x = torch.tensor([[0, 1], [2, 3], [2, 2], [1, 0], [2, 2]])
    estimate = Estimate(torch.softmax(torch.arange(40.0, dtype=torch.float64).reshape(5, 2, K).sin(), -1))
    laws = process.marginal(x, late), process.forward(x, early, late), process.reverse(estimate, x, late, early)
    for i in range(5):
        s, t, row = float(early[i]), float(late[i]), slice(i, i + 1)
        one = Estimate(estimate.mean[row])
        wants = process.marginal(x[row], t), process.forward(x[row], s, t), process.reverse(one, x[row], t, s)
        for law, want in zip(laws, wants):
            close(law.probs[row], want.probs)


@chains
def test_no_step_keeps_the_state(process: Categories) -> None:
    flat = Estimate(torch.full((K, 1, K), 1 / K, dtype=torch.float64))
    for t in (0.0, 0.5, 1.0):
        close(process.reverse(flat, STATES, t, t).probs[:, 0], torch.eye(K))
        close(process.forward(STATES, t, t).probs[:, 0], torch.eye(K))


@chains
def test_errors(process: Categories) -> None:
    flat = Estimate(torch.full((K, 1, K), 1 / K, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"ancestral reverse law only \(eta = 1\), got eta = 0"):
        process.reverse(flat, STATES, 0.5, 0.2, 0.0)
    with pytest.raises(ValueError, match="reverse goes towards data"):
        process.reverse(flat, STATES, 0.2, 0.5)
    with pytest.raises(ValueError, match="forward goes towards noise"):
        process.forward(STATES, 0.5, 0.2)


@every
def test_prior_is_the_marginal_at_the_end(process: Categories) -> None:
    like = torch.zeros(5, 2, dtype=torch.int64)
    close(process.prior(like).probs, marginals(process, 1.0)[0])
    assert process.prior(like).probs.shape == (5, 2, K)
