"""Terms of the bounds on -log p(x_0) for categories, in nats: of a chain, of continuous time, of random orders.

Chain:            KL(q(x_s | x_t, x_0) | p(x_s | x_t)), and -log p(x_0 | x_t) where s = 0
Continuous time:  the KL between two laws of jumps, sum_y (r_hat - r + r log(r / r_hat)), r(y) = the rate from x_t to y
                  backwards in time under x_0, r_hat under the estimate. With a mask it is
                  -keep' / (1 - keep) sum over masked positions of -log p(x_0 | x_t).
Random orders:    D / (D - k) sum over the unknown positions of -log p(x_0 | k known ones), k uniform on 0 .. D - 1

The last two have one mean: where positions are masked by an absorbing process, the number that is known, given that
it changes, is uniform, whatever the schedule.

Source: Austin et al. 2021 (2107.03006) eq. 1; Campbell et al. 2022 (2205.14987) proposition 2; Shi et al. 2024
(2406.04329) eq. 4; Sahoo et al. 2024 (2406.07524) eq. 10; Hoogeboom et al. 2022 (2110.02037) eq. 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Categorical
from sfumato.noise import Noise
from sfumato.processes import Categories, Jumping, Time

FLOOR = 1e-30  # what a model gives no float of probability has this much: losses and their gradients stay finite


def floored(p: Tensor) -> Tensor:
    """Probabilities of a model that are at least FLOOR; those below get no gradient."""
    return p.clamp(min=FLOOR)


def chain_term(process: Categories, estimate: Estimate, x0: Tensor, xt: Tensor, t: Time, s: Time) -> Tensor:
    """One term of the chain, (B,); times are floats, or one for each row."""
    law = Categorical(floored(process.reverse(estimate, xt, t, s).probs))
    if isinstance(s, float) and s == 0.0:
        return -law.log_prob(x0)
    true = process.reverse(Estimate(process.one_hot(x0).to(estimate.mean)), xt, t, s).probs
    # The tails of the two laws underflow in different places: what is not worth 1e-28 nats counts as 0.
    kl = Categorical(torch.where(true < FLOOR, 0.0, true)).kl(law)
    if isinstance(s, float):
        return kl
    # Where s = 0 the true law is x_0 itself, and the KL is its code length.
    return torch.where(s.to(kl.device) == 0.0, -law.log_prob(x0), kl)


def jump_term(process: Jumping, estimate: Estimate, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """The integrand of continuous time at t, (B,), t in [0, 1): its mean over uniform t is the bound."""
    true = process.backward(process.one_hot(x0).to(estimate.mean), xt, t)
    model = process.backward(estimate.mean, xt, t)
    alive = true > 0
    safe, other = torch.where(alive, true, 1.0), torch.where(alive, floored(model), 1.0)
    return (model - true + torch.where(alive, safe * (safe.log() - other.log()), 0.0)).flatten(1).sum(1)


def known_after(order: Tensor, k: Tensor | int) -> Tensor:
    """Which positions are known after k steps of an order, (B, D) bool: those that are among its first k.

    Args:
        order: permutations of 0 .. D - 1, (B, D): the position of each step.
        k: one number, or one a row.
    """
    rank = order.argsort(1)
    return rank < (k if isinstance(k, int) else k.unsqueeze(1))


def order_losses(denoiser: Denoiser, x0: Tensor, noise: Noise, counts: Sequence[int] | None = None) -> Tensor:
    """Mean -log p(x_i | k known) over the unknown i of a random order, (B, len(counts)): L_{k+1} of the paper.

    Over all counts 0 .. D - 1 the sum is a draw of the bound on -log p(x_0): D calls of the denoiser.

    Args:
        denoiser: on a process with a mask.
        counts: numbers k of known positions; all if not given.

    Source: Hoogeboom et al. 2022 (2110.02037) eq. 3 and 4.
    """
    D = x0[0].numel()
    found = []
    for k in range(D) if counts is None else counts:
        score = noise.uniform(torch.empty(len(x0), D, dtype=torch.float64))
        known = known_after(score.argsort(1), k)
        found.append(unknown_loss(denoiser, x0, known, 1.0 - k / D) / (D - k))
    return torch.stack(found, 1)


def unknown_loss(denoiser: Denoiser, x0: Tensor, known: Tensor, t: Time) -> Tensor:
    """Sum of -log p(x_i | known positions) over the unknown i, (B,)."""
    process = denoiser.process
    assert isinstance(process, Categories) and process.mask is not None
    known = known.reshape(x0.shape).to(x0.device)
    xt = torch.where(known, x0, process.mask)
    logs = floored(denoiser(xt, t).mean.gather(-1, x0.unsqueeze(-1)).squeeze(-1)).log()
    return -torch.where(known, 0.0, logs).flatten(1).sum(1)
