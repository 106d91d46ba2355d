"""Learned steps: efficient sampling from diffusion probabilistic models (Watson et al. 2021, 2106.03802)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian
from sfumato.samplers import Ancestral

EXAMPLE = """\
python -c 'import torch, sfumato as sf; R = sf.recipes.load("learned-steps").Recipe(steps=8, fine=200)
W = sf.GaussianWorld(torch.ones(2), torch.eye(2) * 0.04); D = W.denoiser(sf.processes.LinearBeta())
print(R.times(D, W.sample(200, sf.Noise(0)), sf.Noise(1)))'"""


@dataclass(frozen=True)
class Recipe:
    """The K steps with the best ELBO out of a fine grid, by dynamic programming.

    The ELBO of ancestral sampling is a sum of one term for each pair of neighbouring times that are kept, so the best K
    of N times are a shortest path: with cost L(s, t) of the step t -> s,

        C[k, t] = min_{s < t} C[k - 1, s] + L(s, t),   C[0, 0] = 0,

    and the answer is C[K, 1], plus the prior's term, which does not depend on the path. With the small variance,

        L(s, t) = 0.5 (SNR(s) - SNR(t)) E |x_0 - D(x_t, t)|^2,

    so that one table of N mean squared errors gives all N^2 / 2 costs. The step to sigma = 0 is the decoder's term,
    -E log N(x_0; D, sigma_1^2 / alpha_1^2) at the smallest noise kept.

    Where sigma(0) > 0 there is no decoder, and with an exact D every step more improves the bound; with one, a smallest
    level far below the next can cost more than it gives.

    Limits: the best ELBO is not the best picture. Such grids crowd near the clean end, and their FID is poor.

    Args:
        steps: K.
        fine: N, steps of the fine grid, uniform in time; the paper has 1000 or 4000.

    Source: Watson et al. 2021 (2106.03802) eq. 8 to 10, algorithm 1.
    """

    steps: int = 32
    fine: int = 1000

    def times(self, denoiser: Denoiser, data: Tensor, noise: Noise) -> tuple[float, ...]:
        """The grid of K steps for this denoiser, from 1 to 0; one call of the denoiser at each of N times.

        Args:
            data: examples of x_0, (n, *event), model space; some hundreds.
            noise: of their noisy versions.
        """
        grid = grids.uniform(self.fine)[::-1]
        process = denoiser.process
        assert isinstance(process, Gaussian)
        kept, _ = shortest(
            elbo_costs(process, grid, errors(denoiser, data, grid[1:], noise), data[0].numel()), self.steps
        )
        return tuple(grid[i] for i in reversed(kept))

    def sampler(self) -> Ancestral:
        """Ancestral sampling, which the ELBO is that of."""
        return Ancestral()


def errors(denoiser: Denoiser, data: Tensor, times: Sequence[float], noise: Noise) -> Tensor:
    """E |x_0 - D(x_t, t)|^2, summed over the event, at each time; float64, (N,)."""
    process = denoiser.process
    found = []
    with torch.no_grad():
        for t in times:
            law = process.marginal(data, t)
            found.append((data - denoiser(law.sample(noise), t).mean).flatten(1).double().square().sum(1).mean())
    return torch.stack(found)


def elbo_costs(process: Gaussian, times: Sequence[float], mse: Tensor, d: int) -> Tensor:
    """L[i, j], the cost in nats of the step times[j] -> times[i], infinite for i >= j; (N + 1, N + 1), float64.

    Args:
        times: rising, times[0] = 0.
        mse: E |x_0 - D|^2 at times[1:], (N,).
        d: numbers in one event.
    """
    late = torch.tensor([math.exp(process.log_snr(t)) for t in times[1:]], dtype=torch.float64)
    clean = process.log_snr(times[0])
    early = torch.cat([torch.tensor([math.exp(clean) if clean < 700.0 else math.inf], dtype=torch.float64), late[:-1]])
    costs = 0.5 * (early[:, None] - late) * mse
    if math.isinf(clean):
        # From sigma > 0 to data: a Gaussian decoder with the noise of that level.
        costs[0] = 0.5 * (late * mse + d * torch.log(2.0 * math.pi / late))
    table = torch.full((len(times), len(times)), math.inf, dtype=torch.float64)
    table[:-1, 1:] = costs
    below = torch.ones_like(table, dtype=torch.bool).tril()
    return table.masked_fill(below, math.inf)


def shortest(costs: Tensor, steps: int) -> tuple[tuple[int, ...], float]:
    """The path 0 = i_0 < ... < i_K = N of least total cost sum_k costs[i_{k-1}, i_k], and that cost. O(K N^2).

    Raises:
        ValueError: unless 1 <= steps <= N.
    """
    last = len(costs) - 1
    if not 1 <= steps <= last:
        raise ValueError(f"a grid of {last} steps has paths of 1 to {last}, got {steps}.")
    best, came = costs[0].clone(), []
    for _ in range(steps - 1):
        total, previous = (best[:, None] + costs).min(0)
        came.append(previous)
        best = total
    path = [last]
    for previous in reversed(came):
        path.append(int(previous[path[-1]]))
    return (0, *reversed(path)), float(best[last])
