"""Weights of the loss and laws of its times, from their definitions in SNR and by exact distribution functions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sfumato.denoisers import predict_v
from sfumato.noise import Noise, Seeds
from sfumato.processes import LinearBeta, SubVP, Table
from sfumato.training import (
    LowDiscrepancy,
    Steps,
    Uniform,
    UniformLogSNR,
    eps_weight,
    min_snr,
    output_weight,
    p2_weight,
    soft_min_snr,
    truncated_snr,
    v_weight,
)


@pytest.mark.parametrize(
    ("weight", "at_quarter", "at_nine"),
    [
        (v_weight, 1.25, 10.0),
        (truncated_snr, 1.0, 9.0),
        (min_snr(), 0.25, 5.0),
        (min_snr(0.1), 0.1, 0.1),
        (soft_min_snr(), 5 / 21, 45 / 14),
        (p2_weight(), 0.2, 0.9),
        (p2_weight(0.5), 0.25 / math.sqrt(1.25), 9 / math.sqrt(10)),
        (p2_weight(1.0, 3.0), 0.25 / 3.25, 0.75),
    ],
)
def test_weights_at_two_noise_levels(weight, at_quarter: float, at_nine: float) -> None:
    """SNR is alpha^2 / sigma^2, not its root: 0.25 and 9 here, as floats and as tensors."""
    alphas, sigmas = [math.sqrt(0.2), math.sqrt(0.9)], [math.sqrt(0.8), math.sqrt(0.1)]
    got = [weight(a, s) for a, s in zip(alphas, sigmas)]
    assert got == pytest.approx([at_quarter, at_nine], rel=1e-12)
    tensors = weight(torch.tensor(alphas, dtype=torch.float64), torch.tensor(sigmas, dtype=torch.float64))
    assert tensors.tolist() == pytest.approx([at_quarter, at_nine], rel=1e-12)


def test_the_weight_of_v_is_that_of_its_scheme() -> None:
    process = LinearBeta()
    for t in (0.1, 0.5, 0.9):
        a, s = process.alpha(t), process.sigma(t)
        assert v_weight(a, s) == pytest.approx(output_weight(predict_v)(a, s), rel=1e-12)
        assert v_weight(a, s) == pytest.approx(eps_weight(a, s) + 1, rel=1e-12)


def test_steps_are_the_levels_of_a_table_uniformly() -> None:
    n = (Steps(5)(Table.linear(5, 0.1, 0.3), 50_000, Noise(0)) * 5).round(decimals=9)
    counts = torch.bincount(n.long(), minlength=6)
    assert counts[0] == 0 and torch.equal(n, n.round()) and len(counts) == 6
    assert float((counts[1:] - 10_000).abs().max()) < 4 * math.sqrt(50_000 * 0.2 * 0.8)


def test_low_discrepancy_fills_every_cell_and_each_time_is_uniform() -> None:
    t = LowDiscrepancy(0.1, 0.9)(LinearBeta(), 64, Noise(3))
    cells = ((t - 0.1) / 0.8 * 64).floor().long().sort().values
    assert torch.equal(cells, torch.arange(64))
    first = torch.stack([LowDiscrepancy()(LinearBeta(), 4, Noise(seed))[3] for seed in range(2000)])
    assert abs(float(first.mean()) - 0.5) < 4 / math.sqrt(12 * 2000)
    assert abs(float((first < 0.25).double().mean()) - 0.25) < 0.04
    keyed = LowDiscrepancy()(LinearBeta(), 3, Seeds([1, 2, 3]))
    assert float((keyed[1] - keyed[0]) % 1.0) == pytest.approx(1 / 3)


@pytest.mark.parametrize("process", [LinearBeta(), SubVP()], ids=lambda p: type(p).__name__)
def test_importance_times_are_uniform_in_log_snr(process) -> None:
    t = UniformLogSNR(1e-3)(process, 20_000, Noise(0))
    low, high = process.log_snr(1.0), process.log_snr(1e-3)
    u = ((process.log_snr(t) - low) / (high - low)).sort().values
    assert float((u - (torch.arange(20_000) + 0.5) / 20_000).abs().max()) < 1.95 / math.sqrt(20_000)


@pytest.mark.parametrize(
    "law", [Uniform(0.01), LowDiscrepancy(0.2, 0.7), UniformLogSNR(1e-3), UniformLogSNR(1e-5, 0.1)]
)
def test_densities_are_those_of_the_draws(law) -> None:
    """The density integrates to one, and to the share of draws, over each of three ranges."""
    process = LinearBeta()
    draws = law(process, 40_000, Noise(1))
    assert float(draws.min()) >= law.low and float(draws.max()) <= getattr(law, "high", 1.0)
    total = 0.0
    edges = [law.low, 0.1 + 0.5 * law.low, 0.4, getattr(law, "high", 1.0)]
    for a, b in pairwise(edges):
        # Nodes even in log t: the density rises steeply towards 0.
        t = torch.exp(torch.linspace(math.log(a), math.log(b), 40_001, dtype=torch.float64))
        inside = t[:-1] + 1e-12  # the left end belongs to the range on its right
        share = float((law.density(process, inside) * t.diff()).sum())
        total += share
        assert abs(float(((draws >= a) & (draws < b)).double().mean()) - share) < 4 * math.sqrt(0.25 / 40_000) + 1e-3
    assert abs(total - 1) < 2e-3


def test_debiased_times_are_uniform_below_the_flat_time() -> None:
    law, process = UniformLogSNR(1e-5, 0.1), LinearBeta()
    t = law(process, 40_000, Noise(2))
    below = t[t < 0.1]
    assert len(below) > 4000
    assert abs(float(below.mean()) - 0.05) < 4 * 0.1 / math.sqrt(12 * len(below))
    at = torch.tensor([0.02, 0.09, 0.1000001], dtype=torch.float64)
    dense = law.density(process, at)
    assert dense[0] == dense[1] and float(dense[2] / dense[1]) == pytest.approx(1.0, abs=1e-4)


def test_zero_terminal_snr_keeps_its_start_and_ends_at_zero() -> None:
    """Lin et al. algorithm 1: sqrt(abar) is moved linearly, abar_1 as it was, abar_N = 0 exactly."""
    table = Table.scaled_linear(1000)
    zero = table.zero_terminal()
    assert zero.alpha_bars[0] == pytest.approx(table.alpha_bars[0], rel=1e-12) and zero.alpha_bars[-1] == 0.0
    roots = [[math.sqrt(a) for a in each.alpha_bars] for each in (table, zero)]
    slope = (roots[1][300] - roots[1][700]) / (roots[0][300] - roots[0][700])
    assert slope == pytest.approx(roots[1][0] / (roots[0][0] - roots[0][-1]), rel=1e-10)
