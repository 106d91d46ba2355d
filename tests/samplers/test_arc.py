"""Arc and its grid: exact where its slope vanishes, the guard, the rule of the grid."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from sfumato import GaussianWorld, MixtureWorld, Noise, grids, sample
from sfumato.processes import EDM, Cosine, Geometric, LinearBeta, Rectified, SubVP, Table
from sfumato.samplers import DDIM, Arc, DPMpp2M, Sampler

PROCESSES = [LinearBeta(), Cosine(), Rectified(), Geometric(), EDM(), SubVP(), Table.linear().zero_terminal()]


def angle(process: Any, t: float, radius: float = 1.0) -> float:
    return math.atan2(process.sigma(t), radius * process.alpha(t))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_one_step_is_exact_on_a_normal_law_of_its_radius(process: Any) -> None:
    """x_s = x_t sqrt((alpha_s^2 R^2 + sigma_s^2) / (alpha_t^2 R^2 + sigma_t^2)), from t = 1 to t = 0."""
    world = GaussianWorld(torch.zeros(2, dtype=torch.float64), 0.49 * torch.eye(2, dtype=torch.float64))
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    out = sample(world.denoiser(process), Arc(radius=0.7), x1=x, times=(1.0, 0.0), noise=Noise(0))
    ratio = [math.sqrt(process.alpha(t) ** 2 * 0.49 + process.sigma(t) ** 2) for t in (0.0, 1.0)]
    torch.testing.assert_close(out, x * ratio[0] / ratio[1], rtol=1e-12, atol=1e-12)


def test_the_guard_keeps_narrow_data_from_swinging() -> None:
    """A point at 0 is where all paths end; in five long steps the corrector, unguarded, throws them past it."""
    world = GaussianWorld(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), 1e-8, dtype=torch.float64))
    x, D = torch.ones(1, 1, dtype=torch.float64), world.denoiser(Rectified())
    guarded, free = (
        sample(D, Arc(guard=g), x1=x, times=grids.arc(Rectified(), 5), noise=Noise(0)).abs().item()
        for g in (2.0, math.inf)
    )
    assert guarded < 0.25 * free


def test_the_guard_is_a_ratio_of_angles() -> None:
    process = Rectified()
    D = MixtureWorld(
        torch.ones(2, dtype=torch.float64),
        torch.tensor([[-1.0], [0.6]], dtype=torch.float64),
        torch.full((2, 1, 1), 0.04, dtype=torch.float64),
    ).denoiser(process)
    x = torch.tensor([[0.3]], dtype=torch.float64)
    for ratio, corrected in ((1.999, True), (2.001, False)):
        a = 1.2
        times = [process.time_of(-2 * math.log(math.tan(v))) for v in (a, a / ratio)]
        xs, memory = Arc().step(D, x, *times, None, Noise(0))
        _, (known, z, _) = Arc().step(D, xs, times[1], 0.1, memory, Noise(0))
        length = math.hypot(process.alpha(times[1]), process.sigma(times[1]))
        assert torch.allclose(z * length, xs, rtol=1e-10) is not corrected
        assert len(known) == 2
    # ... and a step that goes nowhere costs nothing and changes nothing
    assert Arc().step(D, x, 0.5, 0.5, "memory", Noise(0)) == (x, "memory")


def test_memory_holds_order_points() -> None:
    process = LinearBeta()
    D = GaussianWorld(torch.zeros(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)).denoiser(process)
    for order in (1, 2, 3, 4):
        memory: Any = None
        x = torch.ones(1, 1, dtype=torch.float64)
        for t, s in ((0.9, 0.8), (0.8, 0.7), (0.7, 0.6), (0.6, 0.5), (0.5, 0.4)):
            x, memory = Arc(order).step(D, x, t, s, memory, Noise(0))
        assert [round(process.time_of(-2 * math.log(math.tan(a))), 6) for a, _ in memory[0]] == [0.5, 0.6, 0.7, 0.8][
            :order
        ]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_grid_is_uniform_in_the_root_of_the_angle(process: Any) -> None:
    for power, radius, steps in ((2.0, 1.0, 6), (1.0, 0.5, 9), (3.0, 2.0, 5)):
        times = grids.arc(process, steps, power=power, radius=radius, low=1e-6)
        assert len(times) == steps + 1 and times[0] == 1.0 and times[-1] == 0.0
        roots = [angle(process, t, radius) ** (1 / power) for t in times[:-1]]
        gaps = [a - b for a, b in pairwise(roots)]
        assert gaps == pytest.approx([gaps[0]] * len(gaps), rel=1e-6)
        end = angle(process, 0.0, radius)
        assert angle(process, times[-2], radius) - end == pytest.approx(
            (angle(process, 1.0, radius) - end) / steps**power, rel=1e-6
        )
        if process.sigma(0.0) == 0.0:  # then the last step is like the others
            assert roots[-1] == pytest.approx(gaps[0], rel=1e-6)


def test_grid_stays_above_the_lowest_trained_level() -> None:
    process = LinearBeta()
    level = lambda t: process.sigma(t) / process.alpha(t)  # noqa: E731
    assert level(grids.default(process, 100)[-2]) == pytest.approx(0.002, rel=1e-9)
    assert level(grids.arc(process, 100, low=0.01)[-2]) == pytest.approx(0.01, rel=1e-9)
    assert level(grids.default(process, 4)[-2]) == pytest.approx(math.tan(math.atan(level(1.0)) / 16), rel=1e-9)
    assert grids.default(process, 7) == grids.arc(process, 7, power=2.0, radius=1.0, low=0.002)


def test_grid_stays_on_the_levels_of_a_table() -> None:
    process = Table.linear(200)
    assert grids.default(process, 150)[-2] == pytest.approx(1 / 200, rel=1e-6)
    assert grids.arc(process, 150, radius=4.0)[-2] == pytest.approx(1 / 200, rel=1e-6)
    assert grids.default(process, 4)[-2] > 1 / 200


def test_grid_between_other_ends() -> None:
    process = LinearBeta()
    times = grids.default(process, 5, start=0.6, end=0.2)
    assert times[0] == 0.6 and times[-1] == 0.2 and len(times) == 6 and list(times) == sorted(times, reverse=True)
    assert angle(process, times[-2]) == pytest.approx(
        angle(process, 0.2) + (angle(process, 0.6) - angle(process, 0.2)) / 25, rel=1e-9
    )
    assert grids.arc(process, 1) == (1.0, 0.0)
    # where all of the way lies below the lowest level there is nothing to spread
    assert grids.arc(process, 4, start=1e-3, low=0.5) == grids.uniform(4, start=1e-3)
    with pytest.raises(ValueError, match="at least 1 step"):
        grids.arc(process, 0)


def ring(d: int) -> MixtureWorld:
    if d == 2:
        turn = torch.arange(8, dtype=torch.float64) * math.pi / 4
        return MixtureWorld(
            turn * 0 + 1, torch.stack([turn.cos(), turn.sin()], 1), 0.01 * torch.eye(2).double().repeat(8, 1, 1)
        )
    means = 0.25 * Noise(0).normal(torch.zeros(8, d, dtype=torch.float64))
    return MixtureWorld(torch.ones(8, dtype=torch.float64), means, 0.126**2 * torch.eye(d).double().repeat(8, 1, 1))


@pytest.mark.parametrize(
    ("d", "targets"), [(2, {5: 0.134, 10: 0.046, 20: 0.016}), (64, {5: 0.485, 10: 0.298, 20: 0.15})]
)
def test_default_is_better_than_the_best_peer(d: int, targets: dict[int, float]) -> None:
    """RMS distance to the end of the exact flow, against the best figures measured for other libraries, by calls."""
    process, world = LinearBeta(), ring(d)
    D, x1 = world.denoiser(process), Noise(1).normal(torch.zeros(32, d, dtype=torch.float64))
    end = process.time_of(2 * math.log(1e4))
    exact = D(world.flow(x1, 1.0, end, process, steps=150), end).mean

    def error(sampler: Sampler, steps: int) -> float:
        out = sample(D, sampler, x1=x1, times=grids.default(process, steps), noise=Noise(0))
        return float((out - exact).square().sum(1).mean().sqrt())

    for steps, target in targets.items():
        assert error(Arc(), steps) < 0.6 * target
        assert error(Arc(), steps) < min(error(DDIM(), steps), error(DPMpp2M(), steps))
