"""Tabulated schedules: the papers' tables, exact at their levels, and what happens between."""

from __future__ import annotations

import math

import pytest
import torch
from worlds_for_tests import close

from sfumato.processes import Cosine, Table


def test_the_table_of_ddpm() -> None:
    """Ho et al. 2020 as the DDPM card states it: abar_1000 = 4.04e-5, lambda from 9.21 to -10.12."""
    table = Table.linear()
    assert table.steps == 1000
    assert table.alpha_bars[-1] == pytest.approx(4.04e-5, abs=5e-8)
    assert table.alpha_bars[0] == pytest.approx(1 - 1e-4, abs=1e-15)
    assert table.alpha_bars[1] == pytest.approx((1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999), abs=1e-15)
    assert table.log_snr(0.001) == pytest.approx(9.21, abs=5e-3)
    assert table.log_snr(1.0) == pytest.approx(-10.12, abs=5e-3)
    close(1 - table.alpha_bars[-1] / table.alpha_bars[-2], 0.02, 1e-12)


def test_the_table_of_latent_diffusion() -> None:
    """Lin et al. 2024, section 2: Stable Diffusion ends at sqrt(abar) = 0.068265, SNR 0.004682."""
    table = Table.scaled_linear()
    assert math.sqrt(table.alpha_bars[-1]) == pytest.approx(0.068265, abs=5e-7)
    assert math.exp(table.log_snr(1.0)) == pytest.approx(0.004682, abs=5e-7)
    close(1 - table.alpha_bars[0], 0.00085)


def test_the_cosine_table_follows_the_cosine_until_it_clips() -> None:
    assert Table.cosine().steps == 1000
    table, smooth = Table.cosine(100), Cosine()
    for n in (1, 37, 98, 99):
        close(table.alpha_bars[n - 1], smooth.alpha(n / 100) ** 2)
    close(table.alpha_bars[-1] / table.alpha_bars[-2], 1 - 0.999, 1e-12)
    close(Table.cosine(100, clip=0.5).alpha_bars[-1] / Table.cosine(100, clip=0.5).alpha_bars[-2], 0.5)


def test_levels_are_exact_and_the_path_between_is_linear_in_log_snr() -> None:
    table = Table((0.9, 0.5, 0.2, 0.05))
    for n, bar in enumerate(table.alpha_bars, 1):
        for t in (n / 4, torch.tensor([n / 4], dtype=torch.float64)):
            close(table.alpha(t) ** 2, bar)
            close(table.sigma(t) ** 2, 1 - bar)
    logit = [math.log(a / (1 - a)) for a in table.alpha_bars]
    close(table.log_snr(0.375), 0.5 * (logit[0] + logit[1]))
    close(table.log_snr(0.9375), 0.25 * logit[2] + 0.75 * logit[3])
    # Below the first level sigma / alpha is proportional to t.
    ratio = table.sigma(0.25) / table.alpha(0.25)
    close(table.sigma(0.05) / table.alpha(0.05), 0.2 * ratio)
    assert table.alpha(0.0) == 1.0 and table.sigma(0.0) == 0.0


def test_zero_terminal_snr() -> None:
    """Lin et al. 2024, algorithm 1: sqrt(abar) is shifted and scaled, its first value kept and its last made 0."""
    table = Table.scaled_linear(50)
    zero = table.zero_terminal()
    before = [math.sqrt(a) for a in table.alpha_bars]
    after = [math.sqrt(a) for a in zero.alpha_bars]
    close(after[0], before[0])
    assert after[-1] == 0.0
    factor = (after[3] - after[20]) / (before[3] - before[20])
    for b, a in zip(before, after):
        close(a, after[0] + factor * (b - before[0]))
    assert zero.alpha(1.0) == 0.0 and zero.sigma(1.0) == 1.0 and zero.log_snr(1.0) == -math.inf
    # In the last interval alpha / sigma falls linearly to 0.
    left, half = 49 / 50, 49.5 / 50
    close(zero.alpha(half) / zero.sigma(half), 0.5 * zero.alpha(left) / zero.sigma(left))
    close(zero.time_of(zero.log_snr(half)), half)


def test_rates_are_finite_at_both_ends() -> None:
    """One-sided differences, where log SNR itself is infinite."""
    table, h = Table.scaled_linear(50).zero_terminal(), 1e-7
    for t, toward in ((0.0, h), (1.0, -h)):
        d_alpha, d_sigma = table.rates(t)
        close(d_alpha, (table.alpha(t + toward) - table.alpha(t)) / toward, 1e-4)
        close(d_sigma, (table.sigma(t + toward) - table.sigma(t)) / toward, 1e-4)
        for got, want in zip(table.rates(torch.tensor([t])), (d_alpha, d_sigma)):
            close(got, want)


def test_betas_may_end_in_one() -> None:
    table = Table.from_betas([0.1, 0.5, 1.0])
    close(torch.tensor(table.alpha_bars), torch.tensor([0.9, 0.45, 0.0]), 1e-7)
    assert table.alpha_bars[-1] == 0.0


@pytest.mark.parametrize("bars", [(0.5,), (), (0.5, 0.5), (0.4, 0.5), (1.0, 0.5), (0.5, -0.1), (1.2, 0.5)])
def test_a_table_must_fall(bars: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="at least two alpha_bars that fall from below 1 to 0 or above"):
        Table(bars)
    assert Table((0.5, 0)).alpha_bars == (0.5, 0.0)
