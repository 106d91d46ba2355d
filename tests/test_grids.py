"""Grids of times."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from worlds_for_tests import PROCESSES, close

from sfumato import grids
from sfumato.processes import EDM, Cosine, Gaussian, Geometric, LinearBeta, Rectified, Table

every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def test_uniform() -> None:
    close_all(grids.uniform(4), (1.0, 0.75, 0.5, 0.25, 0.0))
    close_all(grids.uniform(3, start=0.8, end=0.2), (0.8, 0.6, 0.4, 0.2))
    assert grids.uniform(1) == (1.0, 0.0)
    assert grids.uniform(3, end=0.1)[-1] == 0.1 and grids.uniform(7, start=0.3)[0] == 0.3


def close_all(got: tuple[float, ...], want: tuple[float, ...]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        close(a, b)


@every
@pytest.mark.parametrize("steps", [2, 3, 12])
def test_log_snr_is_uniform_between_its_ends(process: Gaussian, steps: int) -> None:
    """From -10.12 to 9.21, DDPM's ends, or what the process reaches; 1 before and 0 after where it reaches further."""
    times = grids.log_snr(process, steps)
    assert len(times) == steps + 1 and times[0] == 1.0 and times[-1] == 0.0
    assert all(a > b for a, b in pairwise(times))
    reach = process.log_snr(1.0), process.log_snr(0.0)
    values = [process.log_snr(t) for t in times]
    inner = values[reach[0] < -10.12 :][: None if reach[1] <= 9.21 else -1]
    if steps > 2:
        close(inner[0], max(-10.12, reach[0]), 1e-6)
        close(inner[-1], min(9.21, reach[1]), 1e-6)
    gaps = [b - a for a, b in pairwise(inner)]
    for gap in gaps:
        close(gap, gaps[0], 1e-6)


def test_log_snr_with_other_ends() -> None:
    process = LinearBeta()
    times = grids.log_snr(process, 6, low=-4.0, high=4.0, start=0.9, end=0.1)
    assert times[0] == 0.9 and times[-1] == 0.1 and len(times) == 7
    inside = grids.log_snr(process, 6, low=-2.0, high=2.0)
    values = [process.log_snr(t) for t in inside[1:-1]]
    for i, value in enumerate(values):
        close(value, -2.0 + 4.0 * i / 4, 1e-9)
    reached = [process.log_snr(t) for t in times]  # the ends lie within (-4, 4): 0.9 does not, 0.1 does
    assert reached[0] < -4.0 and 0.0 < reached[-1] < 4.0
    for i, value in enumerate(reached[1:]):
        close(value, -4.0 + (reached[-1] + 4.0) * i / 5, 1e-9)


def test_log_snr_whose_ends_are_those_of_the_process() -> None:
    """No end comes twice."""
    process = LinearBeta()
    low, high = process.log_snr(1.0), process.log_snr(0.1)
    times = grids.log_snr(process, 6, low=low, high=high, end=0.1)
    assert times[0] == 1.0 and times[-1] == 0.1
    for a, b in pairwise(process.log_snr(t) for t in times):
        close(b - a, (high - low) / 6, 1e-9)


def test_log_snr_in_one_and_two_steps() -> None:
    """With no room for the two inner ends, the middle of the range."""
    process = Rectified()
    assert grids.log_snr(process, 1) == (1.0, 0.0)
    first, middle, last = grids.log_snr(process, 2)
    assert (first, last) == (1.0, 0.0)
    close(process.log_snr(middle), 0.5 * (-10.12 + 9.21), 1e-9)
    assert grids.log_snr(Geometric(), 1) == (1.0, 0.0)


def test_karras_grid_of_edm() -> None:
    """The EDM card: N = 18 gives 80, 57.586, 40.786, 28.375, .., 0.0229, 0.0075, 0.002 and then 0."""
    want = {0: 80.0, 1: 57.586, 2: 40.786, 3: 28.375, 15: 0.0229, 16: 0.0075, 17: 0.002}
    edm = grids.karras(EDM(), 18)
    close_all(edm, grids.uniform(17))
    for process, times in ((EDM(), edm), (Rectified(), grids.karras(Rectified(), 18))):
        for i, value in want.items():
            if i or process.sigma(0.0) > 0:
                level = process.sigma(times[i]) / process.alpha(times[i])
                assert level == pytest.approx(value, abs=5e-4 if value > 1 else 5e-5)
    flow = grids.karras(Rectified(), 18)
    assert flow[0] == 1.0 and flow[-1] == 0.0 and len(flow) == 19
    assert len(edm) == 18  # sigma(0) is sigma_min there: the grid ends at it


def test_karras_grid_is_held_to_what_the_process_reaches() -> None:
    process = LinearBeta(beta_max=5.0)
    top = process.sigma(1.0) / process.alpha(1.0)
    times = grids.karras(process, 5, rho=3.0, sigma_min=0.1)
    roots = [(process.sigma(t) / process.alpha(t)) ** (1 / 3) for t in times[:-1]]
    close(roots[0], top ** (1 / 3))
    close(roots[-1], 0.1 ** (1 / 3), 1e-9)
    for a, b in pairwise(roots):
        close(a - b, (roots[0] - roots[-1]) / 4, 1e-9)
    close_all(grids.karras(Geometric(), 2), (1.0, 0.0))
    with pytest.raises(ValueError, match="at least 2 steps, got 1"):
        grids.karras(EDM(), 1)
    assert len(grids.karras(EDM(), 2)) == 2


@pytest.mark.parametrize(
    ("spacing", "levels"),
    [
        ("leading", (901, 801, 701, 601, 501, 401, 301, 201, 101, 1)),
        ("linspace", (1000, 889, 778, 667, 556, 445, 334, 223, 112, 1)),
        ("trailing", (1000, 900, 800, 700, 600, 500, 400, 300, 200, 100)),
    ],
)
def test_table_spacings_of_lin(spacing: str, levels: tuple[int, ...]) -> None:
    """Lin et al. 2024, table 2: T = 1000, 10 steps, timesteps counted from 1."""
    assert grids.table(Table.linear(), 10, spacing=spacing) == (*(n / 1000 for n in levels), 0.0)


def test_table_quadratic_of_ddim() -> None:
    """DDIM's public code: [int(s) for s in np.linspace(0, sqrt(0.8 N), S) ** 2], counted from 0."""
    for N, steps in ((1000, 10), (1000, 7), (400, 20)):
        seq = [int(s) for s in np.linspace(0, np.sqrt(N * 0.8), steps) ** 2]
        times = grids.table(Table.linear(N), steps, spacing="quadratic")
        assert times == (*((n + 1) / N for n in reversed(seq)), 0.0)


def test_table_steps_that_do_not_divide() -> None:
    table = Table.linear()
    assert grids.table(table, 3, spacing="leading") == (667 / 1000, 334 / 1000, 1 / 1000, 0.0)
    assert grids.table(table, 3, spacing="trailing") == (1.0, 667 / 1000, 333 / 1000, 0.0)
    assert grids.table(table, 2, spacing="linspace") == (1.0, 1 / 1000, 0.0)
    assert grids.table(table, 2, spacing="quadratic")[1:] == (1 / 1000, 0.0)
    assert grids.table(table, 2, spacing="quadratic")[0] in (800 / 1000, 801 / 1000)  # by the rounding of a square


def test_table_errors() -> None:
    table = Table.linear(20)
    assert grids.table(table, 20) == (*(n / 20 for n in range(20, 0, -1)), 0.0)
    assert grids.table(table, 1, spacing="linspace") == (1 / 20, 0.0)
    assert grids.table(table, 1, spacing="quadratic") == (1 / 20, 0.0)
    assert grids.table(table, 1, spacing="leading") == (1 / 20, 0.0)
    with pytest.raises(ValueError, match="has 20 levels: it cannot give 21 steps"):
        grids.table(table, 21)
    with pytest.raises(ValueError, match="trailing, leading, linspace or quadratic, got 'even'"):
        grids.table(table, 5, spacing="even")


def test_levels_of_a_chain() -> None:
    assert grids.levels_of(4, 4) == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert grids.levels_of(10, 3) == (1.0, 0.7, 0.3, 0.0)
    with pytest.raises(ValueError, match="a chain of 4 levels cannot give 5 steps"):
        grids.levels_of(4, 5)
    with pytest.raises(ValueError):
        grids.levels_of(4, 0)


def test_at_least_one_step() -> None:
    for make in (grids.uniform, lambda n: grids.log_snr(Cosine(), n), lambda n: grids.table(Table.linear(), n)):
        with pytest.raises(ValueError, match="at least 1 step, got 0"):
            make(0)


def test_travel_goes_back_up_after_every_jump() -> None:
    times = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
    down_again = (1.0, 0.8, 0.6, 1.0, 0.8, 0.6, 0.4, 0.2, 0.6, 0.4, 0.2, 0.0)
    assert grids.travel(times, jump=2, repeats=2) == down_again
    assert grids.travel(times, jump=1, repeats=3)[:7] == (1.0, 0.8, 1.0, 0.8, 1.0, 0.8, 0.6)
    assert grids.travel(times, jump=3, repeats=1) == times
    assert grids.travel(times, jump=10, repeats=5) == times
    # the last stretch is not repeated, even where it is whole
    assert grids.travel(times, jump=5, repeats=2) == times
    assert grids.travel(times[:5], jump=2, repeats=2) == (*down_again[:6], 0.4, 0.2)
    long = grids.uniform(30)
    assert (
        grids.travel(long) == grids.travel(long, jump=10, repeats=10)
        and len(grids.travel(long)) == 1 + 10 * 20 + 10 + 18
    )
    for jump, repeats in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"at least 1, got {jump} and {repeats}"):
            grids.travel(times, jump=jump, repeats=repeats)


def test_levels_of_processes_without_signal_or_noise() -> None:
    assert grids._level(Rectified(), 1.0) == math.inf and grids._level(Rectified(), 0.0) == 0.0
