"""Noise estimation: refits to the card's numbers, a schedule per sample, no change where the estimate is perfect."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from worlds_for_tests import close, full_world, normal, tensor

from sfumato import Noise, Seeds, grids, sample
from sfumato.processes import LinearBeta, Table
from sfumato.samplers import Ancestral, trajectory
from sfumato.samplers.noise_estimation import NoiseEstimation, refitted

BETAS = (0.01, 0.06, 0.11, 0.16)  # linear, so a perfect estimate changes nothing
BARS = [math.prod(1 - b for b in BETAS[:n]) for n in range(5)]


def test_refits_of_the_card() -> None:
    """a^ = 0.3, 6 steps: the last beta 0.34638 (linear from 1e-4), the scale 0.051250 (Fibonacci)."""
    linear, fibonacci = (refitted(tensor(0.3), 6, 1e-4, kind)[:, 0] for kind in ("linear", "fibonacci"))
    assert float(linear[-1]) == pytest.approx(0.34638, abs=5e-6) and float(linear[0]) == 1e-4
    assert linear.diff().std() < 1e-12
    assert float(fibonacci[0]) == pytest.approx(0.051250, abs=5e-7)
    close(fibonacci / fibonacci[0], tensor(1, 1, 2, 3, 5, 8))
    for betas in (linear, fibonacci):
        close((1 - betas).prod(), 0.3, 1e-12)


@pytest.mark.parametrize("kind", ["linear", "fibonacci"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_betas_stay_between_zero_and_one(kind: str, count: int) -> None:
    levels = tensor(-0.2, 0.0, 1e-6, 0.4, 1 - 1e-6, 1.0, 1.3)
    betas = refitted(levels, count, 1e-4, kind)
    assert betas.shape == (count, 7) and bool((betas >= 0).all()) and bool((betas < 1).all())
    close((1 - betas[:, 2:4]).prod(0), levels[2:4], 1e-9)
    if count == 1:
        close(betas[0, 3], 0.6)
    if kind == "linear" and count > 1:
        close(betas[:, 5], 1e-4)  # the nearest: no slope


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_perfect_estimate_changes_nothing(eta: float) -> None:
    """The estimator says the level that each step was meant to reach: the run is that of the fixed grid."""
    process, world, x = LinearBeta(), full_world(), normal(4, 3)
    said = iter(BARS[3:0:-1])
    sampler = NoiseEstimation(lambda x: torch.full((len(x),), next(said), dtype=torch.float64), BETAS, eta=eta)
    D = world.denoiser(process)
    got = sample(D, sampler, x1=x, times=grids.uniform(4), noise=Noise(1))
    times = [process.time_of(math.log(bar / (1 - bar))) for bar in BARS[:0:-1]] + [0.0]
    x_, stream = x, Noise(1)
    for t, s in pairwise(times):
        x_ = process.reverse(D(x_, t), x_, t, s, eta).sample(stream)
    close(got, x_, 1e-7)
    if eta == 1.0:
        close(got, sample(D, Ancestral(), x1=x, times=times, noise=Noise(1)), 1e-7)


def test_each_sample_has_its_own_schedule() -> None:
    D = full_world().denoiser(Table.linear())
    sampler, x = NoiseEstimation(lambda x: torch.sigmoid(x.sum(1)), BETAS, "fibonacci"), normal(3, 3)
    steps = list(trajectory(D, sampler, x, grids.uniform(4), Seeds([1, 2, 3])))
    for i in range(3):
        alone = sample(D, sampler, x1=x[i : i + 1], times=grids.uniform(4), noise=Seeds([1 + i]))
        close(steps[-1].x[i : i + 1], alone, 1e-12)
    for step in steps[1:4]:  # what remains multiplies to what was found
        assert step.memory.shape == (4 - step.index, 3)
        close((1 - step.memory).prod(0), torch.sigmoid(step.x.sum(1)), 1e-9)
    close(steps[0].memory[:, 1], tensor(*BETAS))


def test_refits_only_where_asked() -> None:
    D, x = full_world().denoiser(LinearBeta()), normal(2, 3)
    sampler = NoiseEstimation(lambda x: torch.full((len(x),), 0.5), BETAS, every=2)
    memories = [step.memory for step in trajectory(D, sampler, x, grids.uniform(4), Noise(0))]
    close(memories[1][:, 0], tensor(*BETAS[:3]))
    close((1 - memories[2][:, 0]).prod(), 0.5)
    close(memories[3], memories[2][:1])


def test_settings_and_runs_are_checked() -> None:
    def estimator(x):
        return torch.full((len(x),), 0.5)

    with pytest.raises(ValueError, match="got 'cubic'"):
        NoiseEstimation(estimator, BETAS, "cubic")
    for wrong in (((), 1), ((0.5, 1.0), 1), ((0.0, 0.5), 1), (BETAS, 0)):
        with pytest.raises(ValueError, match=r"betas lie in \(0, 1\) and every is at least 1"):
            NoiseEstimation(estimator, wrong[0], every=wrong[1])
    D = full_world().denoiser(LinearBeta())
    with pytest.raises(ValueError, match="the 4 betas are used up"):
        sample(D, NoiseEstimation(estimator, BETAS), x1=normal(2, 3), times=grids.uniform(5), noise=Noise(0))
