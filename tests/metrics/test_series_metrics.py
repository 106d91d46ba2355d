"""Scores of probabilistic forecasts against closed forms, brute force and another library where it is installed."""

import math

import numpy as np
import pytest
import torch

from sfumato import Noise
from sfumato.metrics import (
    coverage,
    crps,
    crps_sum,
    energy_score,
    mae,
    mase,
    pit,
    quantile_crps,
    quantiles,
)

NORMAL = torch.distributions.Normal(0.0, 1.0)


def draws(*shape, seed=3):
    return Noise(seed).normal(torch.empty(*shape, dtype=torch.float64))


def normal_grid(n):
    """n numbers whose empirical law is N(0, 1) as nearly as n numbers can: quantiles at the middles of n parts."""
    return NORMAL.icdf((torch.arange(n, dtype=torch.float64) + 0.5) / n)


def test_quantile_crps_of_a_calibrated_gaussian_is_the_19_level_constant_not_the_crps():
    """Card S6: 0.59142 s for the 19 levels, s / sqrt(pi) = 0.56419 s for the integral."""
    forecast = 2.0 * normal_grid(4001).reshape(-1, 1, 1).expand(-1, 1, 2001)
    truth = 2.0 * normal_grid(2001).reshape(1, -1)
    by_levels = float(quantile_crps(forecast, truth, relative=False))
    assert by_levels == pytest.approx(2 * 0.59142, abs=2e-3)
    closed = [2 * math.exp(NORMAL.log_prob(NORMAL.icdf(torch.tensor(i / 20))).item()) for i in range(1, 20)]
    assert by_levels / 2 == pytest.approx(sum(closed) / 19, abs=1e-3)
    finer = [i / 1000 for i in range(1, 1000)]
    assert float(quantile_crps(forecast, truth, relative=False, levels=finer)) == pytest.approx(
        2 / math.sqrt(math.pi), abs=4e-3
    )


def test_quantile_crps_relative_divides_by_the_sum_of_magnitudes_over_all_items():
    samples, truth = draws(7, 3, 2), draws(3, 2, seed=4)
    total = quantile_crps(samples, truth, relative=False) * 6
    assert torch.allclose(quantile_crps(samples, truth), total / truth.abs().sum())


def test_quantile_crps_by_brute_force():
    samples, truth = draws(5, 2, 3), draws(2, 3, seed=5)
    total = 0.0
    for level in (0.1, 0.6):
        for b in range(2):
            for i in range(3):
                q, y = float(np.quantile(samples[:, b, i].numpy(), level)), float(truth[b, i])
                total += 2 * max(level * (y - q), (level - 1) * (y - q))
    found = quantile_crps(samples, truth, relative=False, levels=(0.1, 0.6))
    assert float(found) == pytest.approx(total / 2 / 6)


def test_quantile_crps_counts_what_the_mask_keeps():
    samples, truth = draws(9, 2, 4), draws(2, 4, seed=6)
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0]])
    broken = truth.masked_fill(mask == 0, torch.nan)
    kept = mask.bool()
    expected = quantile_crps(samples[:, kept].unsqueeze(1), truth[kept].unsqueeze(0))
    assert torch.allclose(quantile_crps(samples, broken, mask), expected)


def test_quantiles_agree_with_numpy():
    samples = draws(6, 4)
    for level in (0.0, 0.05, 0.3, 0.5, 0.95, 1.0):
        assert np.allclose(quantiles(samples, (level,))[0].numpy(), np.quantile(samples.numpy(), level, axis=0))
    assert torch.equal(quantiles(samples[:1], (0.3,))[0], samples[0])
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
        quantiles(samples, (1.5,))
    with pytest.raises(ValueError, match="between 0 and 1, got -0.1"):
        quantiles(samples, (-0.1,))


def test_crps_sum_sums_each_sample_before_it_ranks():
    """Two channels that cancel: their sum is known exactly, though neither of them is."""
    x = draws(50, 4, 1, 3)
    samples = torch.cat([x, -x], dim=2)
    truth = torch.stack([draws(4, 3, seed=8), 1.0 - draws(4, 3, seed=8)], dim=1)
    assert float(crps_sum(samples, truth)) == pytest.approx(1.0)  # forecast 0, truth 1, everywhere
    assert float(crps_sum(samples, truth, relative=False)) == pytest.approx(1.0)
    plain = quantile_crps(samples[:, :, 0] + samples[:, :, 1], truth.sum(1), levels=(0.2,))
    assert torch.allclose(crps_sum(samples, truth, levels=(0.2,)), plain)


def test_crps_sum_of_a_mask_leaves_out_numbers_and_times():
    samples, truth = draws(9, 1, 2, 3), draws(1, 2, 3, seed=7)
    mask = torch.tensor([[[1, 1, 0], [1, 0, 0]]])
    sums = torch.stack([samples[:, :, :, 0].sum(2), samples[:, :, 0, 1]], dim=2)
    expected = quantile_crps(sums, torch.stack([truth[:, :, 0].sum(1), truth[:, 0, 1]], dim=1))
    assert torch.allclose(crps_sum(samples, truth.masked_fill(mask == 0, torch.nan), mask), expected)
    every = torch.ones_like(truth)
    assert torch.allclose(crps_sum(samples, truth, every, relative=False), crps_sum(samples, truth, relative=False))
    third = crps_sum(samples, truth, every, relative=False, levels=(0.5,))
    assert torch.allclose(third, crps_sum(samples, truth, relative=False, levels=(0.5,)))


def test_energy_score_is_the_crps_of_one_number_and_a_double_sum_of_several():
    samples, truth = draws(6, 3, 1), draws(3, 1, seed=9)
    assert torch.allclose(energy_score(samples, truth), crps(samples, truth))
    assert torch.allclose(energy_score(samples, truth, fair=True), crps(samples, truth, fair=True))
    samples, truth = draws(4, 2, 3, 2), draws(2, 3, 2, seed=10)
    for b in range(2):
        near = sum(float((x - truth[b]).norm()) for x in samples[:, b]) / 4
        apart = sum(float((x - z).norm()) for x in samples[:, b] for z in samples[:, b])
        assert float(energy_score(samples, truth)[b]) == pytest.approx(near - apart / 32)
        assert float(energy_score(samples, truth, fair=True)[b]) == pytest.approx(near - apart / 24)


def test_energy_score_keeps_the_digits_of_close_samples():
    samples = 1e6 + 1e-3 * draws(5, 1, 4)
    near = energy_score(samples - 1e6, torch.zeros(1, 4, dtype=torch.float64))
    assert torch.allclose(energy_score(samples, torch.full((1, 4), 1e6, dtype=torch.float64)), near, rtol=1e-5)


def test_pit_of_calibrated_samples_is_uniform_and_of_narrow_ones_is_not():
    n = 20_000
    samples, truth = draws(9, n), draws(n, seed=11)
    values = pit(samples, truth, Noise(0))
    assert float(values.min()) >= 0.0
    assert float(values.max()) <= 1.0
    edges = torch.linspace(0, 1, 21, dtype=torch.float64)
    gap = (torch.searchsorted(values.sort().values, edges) / n - edges).abs().max()
    assert gap < 1.63 / math.sqrt(n)  # Kolmogorov-Smirnov, 1 %
    narrow = pit(0.3 * samples, truth, Noise(0))
    assert float(((narrow < 0.1) | (narrow > 0.9)).double().mean()) > 0.5


def test_pit_spreads_ties_over_their_parts():
    truth = torch.zeros(30_000, dtype=torch.float64)
    samples = torch.tensor([-1.0, 0.0, 0.0, 2.0], dtype=torch.float64)[:, None].expand(4, 30_000)
    values = pit(samples, truth, Noise(1))  # one below, two ties: uniform on [1/5, 4/5)
    assert 0.2 <= float(values.min()) < 0.201
    assert 0.799 < float(values.max()) < 0.8
    assert abs(float(values.mean()) - 0.5) < 4 * 0.6 / math.sqrt(12 * 30_000)


def test_masks_of_crps_coverage_and_mae():
    samples, truth = draws(8, 2, 3), draws(2, 3, seed=12)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]])
    broken = truth.masked_fill(mask == 0, torch.nan)
    for score in (crps, coverage):
        expected = [score(samples[:, b : b + 1, mask[b] == 1], truth[b : b + 1, mask[b] == 1])[0] for b in range(2)]
        assert torch.allclose(score(samples, broken, mask), torch.stack(expected))
    errors = (samples[0] - truth).abs()
    expected = torch.stack([(errors[0, 0] + errors[0, 2]) / 2, errors[1, 1]])
    assert torch.allclose(mae(samples[0], broken, mask), expected)
    assert torch.allclose(mae(samples[0], truth), errors.mean(1))
    assert mae(samples[0], truth, torch.zeros(2, 3)).isnan().all()


def test_mase_is_one_for_the_naive_forecast_of_a_steady_past():
    past = torch.tensor([[1.0, 5.0, 2.0, 7.0, 3.0, 9.0]])
    truth = torch.tensor([[4.0, 11.0]])
    naive = past[:, -2:]
    assert mase(naive, truth, past, season=2).tolist() == [1.0]  # every season rises by (1, 2)
    assert mase(naive, truth, past, season=1)[0] == pytest.approx(1.5 / (4 + 3 + 5 + 4 + 6) * 5)
    assert mase(naive, truth, past, season=2, mask=torch.tensor([[1, 0]]))[0] == pytest.approx(1 / 1.5)
    gap = past.clone()
    gap[0, 2] = torch.nan  # what is left: 5 to 7 and 7 to 9
    assert mase(naive, truth, gap, season=2)[0] == pytest.approx(1.5 / 2)


def test_errors():
    samples, truth = draws(3, 2, 4), draws(2, 4)
    for score in (quantile_crps, energy_score, lambda x, y: pit(x, y, Noise(0))):
        with pytest.raises(ValueError, match=r"samples are \(S, B, \*event\), got \(3, 2, 3\) for a truth \(2, 4\)"):
            score(samples[..., :3], truth)
    with pytest.raises(ValueError, match=r"the mask is \(2, 3\), the truth \(2, 4\)"):
        quantile_crps(samples, truth, truth[:, :3])
    with pytest.raises(ValueError, match=r"the mask is \(2, 3\), the values \(2, 4\)"):
        mae(truth, truth, truth[:, :3])
    with pytest.raises(ValueError, match="the same"):
        mae(truth, truth[:, :1])
    with pytest.raises(ValueError, match="at least 2"):
        energy_score(samples[:1], truth, fair=True)
    for season in (0, 4):
        with pytest.raises(ValueError, match="less than the past of 4"):
            mase(truth, truth, truth, season=season)
    with pytest.raises(ValueError, match="repeats itself every 2 steps"):
        mase(truth, truth, torch.tensor([[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.0, 3.0]]), season=2)


def test_against_another_library():
    oracle = pytest.importorskip("scoringrules", reason="scoringrules of the extra dev")
    samples, truth = draws(12, 5, 1), draws(5, 1, seed=13)
    theirs = oracle.crps_ensemble(truth[:, 0].numpy(), samples[:, :, 0].T.numpy(), estimator="nrg")
    assert np.allclose(crps(samples, truth).numpy(), theirs)
    fair = oracle.crps_ensemble(truth[:, 0].numpy(), samples[:, :, 0].T.numpy(), estimator="fair")
    assert np.allclose(crps(samples, truth, fair=True).numpy(), fair)
    vectors, y = draws(12, 5, 3), draws(5, 3, seed=14)
    theirs = oracle.es_ensemble(y.numpy(), vectors.transpose(0, 1).numpy(), m_axis=-2, v_axis=-1)
    assert np.allclose(energy_score(vectors, y).numpy(), theirs)
