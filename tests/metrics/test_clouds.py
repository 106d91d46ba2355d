"""Distances of clouds, and of sets of them, by hand and by identity."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch

import sfumato as sf
from sfumato.metrics.clouds import chamfer, earth_mover, standing


def clouds(n, count, seed=0):
    return sf.Noise(seed).normal(torch.zeros(n, 3, count, dtype=torch.float64))


def test_chamfer_by_hand():
    x = torch.tensor([[[0.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
    y = torch.tensor([[[1.0, 0.0, 4.0], [0.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    assert chamfer(x, y).item() == pytest.approx((1 + 9) / 2 + (1 + 4 + 9) / 3)
    assert torch.equal(chamfer(x, y), chamfer(y, x))


@pytest.mark.parametrize("distance", [chamfer, earth_mover])
def test_identities(distance):
    """Order, and a rigid motion of both, change nothing; a cloud is at 0 from itself; the rows are apart."""
    if distance is earth_mover:
        pytest.importorskip("scipy")
    x, y = clouds(2, 9), clouds(2, 9, 1)
    turn = torch.linalg.qr(clouds(1, 3, 2)[0])[0]
    assert torch.allclose(distance(x, y), distance(x[:, :, [3, 1, 4, 0, 8, 5, 2, 7, 6]], y.flip(2)), atol=1e-12)
    assert torch.allclose(distance(x, y), distance(turn @ x + 1, turn @ y + 1), atol=1e-12)
    assert torch.allclose(distance(x, x.flip(2)), torch.zeros(2).double())
    assert torch.allclose(distance(x[1:], y[1:]), distance(x, y)[1:])


def test_earth_mover_is_the_best_of_all_assignments_and_a_shift_costs_its_length():
    pytest.importorskip("scipy")
    x, y = clouds(1, 5), clouds(1, 5, 1)
    best = min(float((x[0] - y[0][:, list(p)]).norm(dim=0).mean()) for p in itertools.permutations(range(5)))
    assert earth_mover(x, y).item() == pytest.approx(best, abs=1e-12)
    shift = torch.tensor([0.3, -0.4, 1.2], dtype=torch.float64)
    assert earth_mover(x, x.flip(2) + shift[:, None]).item() == pytest.approx(1.3, abs=1e-12)


def test_earth_mover_refuses(monkeypatch):
    with pytest.raises(ValueError, match="one size"):
        earth_mover(clouds(1, 5), clouds(1, 4))
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"sfumato\[baselines\]"):
        earth_mover(clouds(1, 5), clouds(1, 5))


def test_sets_by_hand():
    """Clouds of one point at 0, 1, 10 against 0.5, 9, 30, the distance being |x - y|: nearest others by hand."""
    x, y = (torch.tensor(v).reshape(3, 1, 1).expand(3, 3, 1) for v in ([0.0, 1.0, 10.0], [0.4, 9.0, 30.0]))
    said = standing(x, y, lambda a, b: (a - b).abs()[:, 0, 0])
    assert said.mmd == pytest.approx((0.4 + 1 + 20) / 3)
    assert said.coverage == pytest.approx(2 / 3)  # 0.4 twice, 9 once, 30 never
    # 0 -> 0.4 (other), 1 -> 0.4 (other), 10 -> 9 (other); 0.4 -> 0 (other), 9 -> 10 (other), 30 -> 10 (other)
    assert said.nearest == 0.0
    far = standing(x, y + 1000, lambda a, b: (a - b).abs()[:, 0, 0])
    assert far.nearest == 1.0


def test_two_halves_of_one_set_cannot_be_told_apart():
    """1-NNA of clouds of one law is about a half, whatever the distance; chamfer is the one taken."""
    x = clouds(120, 6)
    assert standing(x[:60], x[60:]).nearest == pytest.approx(0.5, abs=0.15)
    assert standing(x[:3], x[:3]).coverage == 1.0 and standing(x[:3], x[:3]).mmd == 0.0
