"""Laws of training times: Kolmogorov-Smirnov against their analytic distribution functions, and their ends."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from sfumato.noise import Noise, Seeds
from sfumato.processes import EDM, Cosine, LinearBeta, Rectified
from sfumato.training import Levels, LogitNormal, LogNormal, Uniform

N = 20_000


def test_uniform():
    t = Uniform(0.2, 0.9)(EDM(), N, Noise(0))
    assert t.dtype == torch.float64 and t.shape == (N,)
    assert stats.kstest(t.numpy(), stats.uniform(0.2, 0.7).cdf).pvalue > 1e-3
    assert Uniform()(EDM(), N, Noise(1)).min() >= 1e-5


def test_levels_are_the_grid_with_equal_shares():
    t = Levels(5)(EDM(), N, Noise(1))
    values, counts = t.unique(return_counts=True)
    assert values.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (counts / N - 0.2).abs().max() < 4 * math.sqrt(0.16 / N)


@pytest.mark.parametrize("process", [EDM(), LinearBeta(), Cosine(), Rectified()], ids=lambda p: type(p).__name__)
def test_log_normal_in_sigma_over_alpha(process):
    t = LogNormal(-0.5, 0.7)(process, N, Noise(2))
    level = torch.log(process.sigma(t) / process.alpha(t)).numpy()
    assert stats.kstest(level, stats.norm(-0.5, 0.7).cdf).pvalue > 1e-3


def test_log_normal_defaults_are_karras():
    t = LogNormal()(EDM(), N, Noise(3))
    assert stats.kstest(EDM().sigma(t).log().numpy(), stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3


def test_log_normal_is_held_to_the_ends_of_the_process():
    t = LogNormal(math.log(0.002), 1.0)(EDM(), N, Noise(4))
    assert abs(float((t == 0).double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(N)  # half of it lies below sigma_min
    assert (LogNormal(20.0, 0.1)(EDM(), 10, Noise(0)) == 1).all()


def test_logit_normal():
    t = LogitNormal(0.4, 1.5)(EDM(), N, Noise(5))
    assert stats.kstest(torch.logit(t).numpy(), stats.norm(0.4, 1.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("law", [Uniform(), LogNormal(), LogitNormal()])
def test_a_time_belongs_to_its_row(law):
    assert torch.equal(law(EDM(), 3, Seeds([4, 5, 6]))[1:], law(EDM(), 2, Seeds([5, 6])))
