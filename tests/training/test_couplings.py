"""Couplings: orders against brute force, plans and maps against their closed forms on normals."""

import itertools
import math
import sys

import pytest
import torch
from worlds_for_tests import close, tensor

from sfumato.metrics.frechet import frechet_normal
from sfumato.noise import Noise
from sfumato.training import couplings

COV0 = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
COV1 = torch.tensor([[0.3, -0.2], [-0.2, 0.9]], dtype=torch.float64)
MEAN0, MEAN1 = tensor(0.5, -1.0), tensor(-2.0, 1.0)


def draw(n: int, mean: torch.Tensor, cov: torch.Tensor, seed: int) -> torch.Tensor:
    return mean + Noise(seed).normal(torch.empty(n, 2, dtype=torch.float64)) @ torch.linalg.cholesky(cov).T


def test_independent_pairs_are_left_as_they_are() -> None:
    x0, x1 = torch.arange(3.0), torch.arange(3.0, 6.0)
    assert couplings.independent(x0, x1, Noise(0)) == (x0, x1)


def test_optimal_is_the_cheapest_order() -> None:
    pytest.importorskip("ot")
    x0, x1 = draw(6, MEAN0, COV0, 0).reshape(6, 2, 1), draw(6, MEAN1, COV1, 1).reshape(6, 2, 1)
    y0, y1 = couplings.optimal(x0, x1, Noise(0))
    assert y0 is x0 and y1.shape == x1.shape
    cheapest = min(float((x0 - x1[list(p)]).square().sum()) for p in itertools.permutations(range(6)))
    assert float((x0 - y1).square().sum()) == pytest.approx(cheapest, rel=1e-12)
    assert sorted(y1.flatten().tolist()) == sorted(x1.flatten().tolist())
    with pytest.raises(ValueError, match="as many x_1 as x_0, got 5 and 6"):
        couplings.optimal(x0, x1[:5], Noise(0))


def test_optimal_on_a_line_sorts() -> None:
    pytest.importorskip("ot")
    x0, x1 = (Noise(i).normal(torch.empty(50, 1)) for i in (0, 1))
    _, y1 = couplings.optimal(x0, x1, Noise(0))
    assert torch.equal(y1.flatten()[x0.flatten().argsort()], x1.flatten().sort().values)


def test_optimal_transport_of_large_batches_nears_the_map_between_normals() -> None:
    pytest.importorskip("ot")
    n = 600
    x0, x1 = draw(n, MEAN0, COV0, 0), draw(n, MEAN1, COV1, 1)
    x1 = couplings.optimal(x0, x1, Noise(0))[1]
    mapped = couplings.Exact(MEAN0, COV0, MEAN1, COV1)(x0, x1, Noise(0))[1]
    cost = float((x0 - x1).square().sum(1).mean())
    assert cost == pytest.approx(frechet_normal(MEAN0, COV0, MEAN1, COV1), rel=0.1)
    assert float((x1 - mapped).square().sum(1).mean()) < 0.1 * float(COV1.trace())


def test_the_exact_map_has_the_second_law_and_the_least_cost() -> None:
    coupling = couplings.Exact(MEAN0, COV0, MEAN1, COV1)
    C = coupling.cross()
    gain = torch.linalg.solve(COV0, C).T
    close(gain @ COV0 @ gain.T, COV1, 1e-12)
    close(gain, gain.T, 1e-12)  # the gradient of a convex function
    assert bool((torch.linalg.eigvalsh(gain) > 0).all())
    cost = (MEAN0 - MEAN1).square().sum() + (COV0 + COV1 - 2 * C).trace()
    close(cost, frechet_normal(MEAN0, COV0, MEAN1, COV1), 1e-12)
    x0 = draw(5, MEAN0, COV0, 0)
    kept, x1 = coupling(x0.reshape(5, 1, 2), x0, Noise(0))
    assert kept.shape == x1.shape == (5, 1, 2)
    close(x1.reshape(5, 2), MEAN1 + (x0 - MEAN0) @ gain, 1e-12)


def test_the_exact_bridge_between_normals() -> None:
    """The entropic plan is the joint normal whose precision has the off-diagonal block -I / v."""
    for v in (0.1, 0.7, 3.0):
        C = couplings.Exact(MEAN0, COV0, MEAN1, COV1, v).cross()
        joint = torch.cat([torch.cat([COV0, C], 1), torch.cat([C.T, COV1], 1)])
        close(torch.linalg.inv(joint)[:2, 2:], -torch.eye(2, dtype=torch.float64) / v, 1e-9)
    one = couplings.Exact(tensor(0.0), tensor(1.0).reshape(1, 1), tensor(0.0), tensor(0.25).reshape(1, 1), 0.4)
    assert float(one.cross()) == pytest.approx(0.5 * (math.sqrt(4 * 0.25 + 0.16) - 0.4))
    assert float(one.cross()) == pytest.approx(0.338516, abs=1e-6)


def test_draws_of_the_exact_bridge_have_its_moments() -> None:
    n, v = 100_000, 0.7
    coupling = couplings.Exact(MEAN0, COV0, MEAN1, COV1, v)
    x0 = draw(n, MEAN0, COV0, 3)
    x1 = coupling(x0, x0, Noise(4))[1]
    close(x1.mean(0), MEAN1, 4 / math.sqrt(n))
    moments = torch.cov(torch.cat([x0, x1], 1).T)
    close(moments[2:, 2:], COV1, 8 / math.sqrt(n))
    close(moments[:2, 2:], coupling.cross(), 8 / math.sqrt(n))


def test_the_entropic_plan_of_a_large_batch_nears_the_exact_bridge() -> None:
    pytest.importorskip("ot")
    n, v = 500, 0.7
    x0, x1 = draw(n, MEAN0, COV0, 0), draw(n, MEAN1, COV1, 1)
    kept, y1 = couplings.Entropic(v)(x0, x1, Noise(0))
    assert kept is x0
    cross = torch.cov(torch.cat([x0, y1], 1).T)[:2, 2:]
    exact = couplings.Exact(MEAN0, COV0, MEAN1, COV1, v).cross()
    assert float((cross - exact).abs().max()) < 4 / math.sqrt(n)
    # Of low temperature it is the assignment, of high temperature independent.
    few = tensor(-4.0, 0.0, 4.0).reshape(3, 1)
    assert torch.equal(couplings.Entropic(0.1)(few, few[[2, 0, 1]] + 0.5, Noise(0))[1], few + 0.5)
    hot = torch.cov(torch.cat([x0, couplings.Entropic(1e3)(x0, x1, Noise(0))[1]], 1).T)[:2, 2:]
    assert float(hot.abs().max()) < 4 / math.sqrt(n)


def test_without_pot_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    for coupling in (couplings.optimal, couplings.Entropic(1.0)):
        with pytest.raises(ImportError, match=r"sfumato\[ot\]"):
            coupling(torch.zeros(2, 1), torch.zeros(2, 1), Noise(0))
