"""The Brownian path: increments, covariance, and samplers that converge along it, path by path."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import pytest
import torch
from worlds_for_tests import close, full_world, normal

from sfumato import Noise, Seeds, grids, sample
from sfumato.processes import LinearBeta
from sfumato.samplers import (
    DDIM,
    AlongPath,
    Ancestral,
    BrownianPath,
    Chain,
    DPMpp2M,
    EulerMaruyama,
    Langevin,
    ReverseDiffusion,
    trajectory,
)
from sfumato.samplers.brownian import Increment

LIKE = torch.empty(40_000, dtype=torch.float64)


def test_the_path_is_a_function_of_seed_and_time() -> None:
    noise = Noise(3)
    path = BrownianPath(noise)
    first = path(0.3, LIKE[:5])
    noise.normal(LIKE)  # the stream itself has moved on
    assert torch.equal(path(0.3, LIKE[:5]), first)
    assert torch.equal(BrownianPath(Noise(3))(0.3, LIKE[:5]), first)
    assert not torch.equal(BrownianPath(Noise(4))(0.3, LIKE[:5]), first)
    assert torch.equal(path(0.0, LIKE[:5]), torch.zeros(5, dtype=torch.float64))


def test_covariance_is_that_of_brownian_motion() -> None:
    path, times = BrownianPath(Noise(0), 12), (0.1, 0.25, 0.5, 0.77, 1.0)
    W = torch.stack([path(t, LIKE) for t in times])
    cov = W @ W.T / LIKE.numel()
    expected = torch.tensor([[min(a, b) for b in times] for a in times], dtype=torch.float64)
    # Standard error of an entry: sqrt((s_i s_j + c_ij^2) / n) <= sqrt(2 / n) = 0.007.
    assert float((cov - expected).abs().max()) < 0.028
    increments = W.diff(dim=0)
    corr = torch.corrcoef(increments) - torch.eye(4, dtype=torch.float64)
    assert float(corr.abs().max()) < 0.02


def test_deeper_paths_agree_where_both_were_drawn_and_bridge_between() -> None:
    shallow, deep = BrownianPath(Noise(0), 3), BrownianPath(Noise(0), 10)
    for i in range(9):
        assert torch.equal(shallow(i / 8, LIKE), deep(i / 8, LIKE))
    straight = shallow(0.125, LIKE).lerp(shallow(0.25, LIKE), 0.3)
    torch.testing.assert_close(shallow(0.1625, LIKE), straight)
    gap = deep(0.1625, LIKE) - straight
    # A bridge over 1/8 has variance r (1 - r) / 8; that of the deep path is linear over 2^-10 at most.
    assert float(gap.var()) == pytest.approx(0.3 * 0.7 / 8, rel=0.04)


def test_rows_have_paths_of_their_own() -> None:
    x = torch.empty(2, 3, dtype=torch.float64)
    both = BrownianPath(Seeds([5, 9]))(0.6, x)
    assert torch.equal(both[1:], BrownianPath(Seeds([9]))(0.6, x[1:]))
    assert not torch.equal(both[0], both[1])


def test_times_outside_are_refused() -> None:
    for t in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"times in \[0, 1\], got"):
            BrownianPath(Noise(0))(t, LIKE[:1])


WORLD, PROCESS = full_world(), LinearBeta()
START = WORLD.marginal(PROCESS, 0.9).sample(100, Noise(1))


def along(sampler: Any, n: int) -> torch.Tensor:
    times, path = grids.uniform(n, start=0.9, end=0.1), BrownianPath(Noise(2), 13)
    return sample(WORLD.denoiser(PROCESS), AlongPath(sampler, path), x1=START, times=times, noise=Noise(0))


@lru_cache
def solution(eta: float) -> torch.Tensor:
    """Of the reverse SDE with this share of noise along the path, on a fine grid."""
    return along(EulerMaruyama(eta=eta), 1500)


@pytest.mark.parametrize(
    ("sampler", "eta"),
    # DDIM(1) is ancestral sampling from the mean: with the variance a step has more noise than the path.
    [(EulerMaruyama(), 1.0), (EulerMaruyama(0.6), 0.6), (ReverseDiffusion(), 1.0), (DDIM(1.0), 1.0),
     (DPMpp2M(1.0), 1.0)],
    ids=repr,
)  # fmt: skip
def test_strong_convergence_along_one_path(sampler: Any, eta: float) -> None:
    """Additive noise: the mean square distance to the solution of the same path falls as the step or faster."""
    fine = solution(eta)
    errors = [float((along(sampler, n) - fine).square().mean().sqrt()) for n in (24, 96)]
    assert 0.85 < math.log2(errors[0] / errors[1]) / 2 < 1.35
    assert errors[1] < 0.06
    times = grids.uniform(96, start=0.9, end=0.1)
    other = sample(WORLD.denoiser(PROCESS), sampler, x1=START, times=times, noise=Noise(0))
    assert float((other - fine).square().mean().sqrt()) > 5 * errors[1]  # without the path they have nothing in common


def test_marginals_along_paths_are_those_of_fresh_noise() -> None:
    process, world = LinearBeta(), full_world()
    D, n = world.denoiser(process), 20_000
    x = world.marginal(process, 0.9).sample(n, Noise(1))
    out = sample(D, AlongPath(Ancestral(), BrownianPath(Noise(2), 8)), x1=x, times=grids.uniform(20, start=0.9, end=0.1), noise=Noise(0))  # fmt: skip # noqa: E501
    free = sample(D, Ancestral(), x1=x, times=grids.uniform(20, start=0.9, end=0.1), noise=Noise(3))
    assert float((out.mean(0) - free.mean(0)).abs().max()) < 0.05
    assert float((out.std(0) / free.std(0) - 1).abs().max()) < 0.03


def test_memory_of_the_inner_sampler_is_kept_and_a_level_step_takes_the_stream() -> None:
    process = LinearBeta()
    D, x, path = full_world().denoiser(process), normal(2, 3), BrownianPath(Noise(2), 6)
    inner = DPMpp2M(eta=1.0)
    last = list(trajectory(D, AlongPath(inner, path), x, (0.9, 0.7, 0.5), Noise(0)))[-1]
    memory: Any = inner.init(D, x)
    for t, s in ((0.9, 0.7), (0.7, 0.5)):
        x, memory = inner.step(D, x, t, s, memory, Increment((path(t, x) - path(s, x)) / math.sqrt(t - s)))
    close(last.x, x)
    close(last.memory[0][0], memory[0])
    assert torch.equal(last.memory[1], path(0.5, x))
    moved, memory = AlongPath(Langevin(0.01, 1), path).step(D, x, 0.5, 0.5, (None, None), Noise(7))
    assert torch.equal(moved, Langevin(0.01, 1).step(D, x, 0.5, 0.5, None, Noise(7))[0]) and memory == (None, None)


def test_a_second_draw_or_another_law_is_refused() -> None:
    D, x = full_world().denoiser(LinearBeta()), normal(2, 3)
    twice = AlongPath(Chain(Ancestral(), Langevin(0.01, 1)), BrownianPath(Noise(0), 4))
    with pytest.raises(ValueError, match="this sampler draws more"):
        sample(D, twice, x1=x, times=(0.9, 0.5), noise=Noise(0))
    with pytest.raises(ValueError, match="draws more"):
        Increment(x).normal(x[:1])
    with pytest.raises(ValueError, match="normal numbers alone"):
        Increment(x).uniform(x)
